//! One test for each area of recorded cases.

use golden::replay::area;

macro_rules! areas {
    ($($name:ident)+) => {
        $(#[tokio::test]
        async fn $name() {
            if let Err(report) = area(stringify!($name)).await {
                panic!("{report}");
            }
        })+
    };
}

areas! { auth crd defaulting lists misc patches updates validation }
