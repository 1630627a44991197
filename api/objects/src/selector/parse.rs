//! The query-string syntax of label selectors.

use super::{Operator, Requirement, SelectorError};
use crate::field::print_value;
use crate::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    End,
    ClosedPar,
    OpenPar,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    NotEquals,
    GreaterThan,
    LessThan,
    Identifier,
    In,
    NotIn,
    Error,
}

/// Whether `in` and `notin` are keywords or plain words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    KeyAndOperator,
    Values,
}

const SYMBOLS: &str = "=!(),><";

fn lex(text: &str) -> Vec<(Token, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    while let Some(first) = rest.chars().next() {
        let (token, len) = if SYMBOLS.contains(first) {
            symbol(rest)
        } else {
            let stop = |c: char| SYMBOLS.contains(c) || matches!(c, ' ' | '\t' | '\r' | '\n');
            let len = rest.find(stop).unwrap_or(rest.len());
            let token = match &rest[..len] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            (token, len)
        };
        tokens.push((token, &rest[..len]));
        rest = rest[len..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    tokens.push((Token::End, ""));
    tokens
}

/// The longest known token within a run of symbols. A run that starts with none is an error.
fn symbol(rest: &str) -> (Token, usize) {
    const KNOWN: [(&str, Token); 9] = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        (")", Token::ClosedPar),
        ("(", Token::OpenPar),
        (",", Token::Comma),
        ("!", Token::Not),
        ("=", Token::Equals),
        (">", Token::GreaterThan),
        ("<", Token::LessThan),
    ];
    KNOWN
        .iter()
        .find(|(text, _)| rest.starts_with(text))
        .map_or((Token::Error, 1), |(text, token)| (*token, text.len()))
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    position: usize,
}

fn failed<T>(text: String) -> Result<T, SelectorError> {
    Err(SelectorError(text))
}

impl<'a> Parser<'a> {
    fn peek(&self, context: Context) -> (Token, &'a str) {
        let (token, text) = self.tokens[self.position.min(self.tokens.len() - 1)];
        match (context, token) {
            (Context::Values, Token::In | Token::NotIn) => (Token::Identifier, text),
            _ => (token, text),
        }
    }

    fn next(&mut self, context: Context) -> (Token, &'a str) {
        let found = self.peek(context);
        self.position += 1;
        found
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek(Context::Values) {
                (Token::Identifier | Token::Not, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, found) => {
                    return failed(format!(
                        "found '{found}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
            let requirement = self
                .requirement()
                .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
            requirements.push(requirement);
            match self.next(Context::Values) {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek(Context::Values) {
                    (Token::Identifier | Token::Not, _) => {}
                    (_, found) => {
                        return failed(format!("found '{found}', expected: identifier after ','"));
                    }
                },
                (_, found) => {
                    return failed(format!("found '{found}', expected: ',' or 'end of string'"));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next(Context::Values);
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next(Context::Values);
        }
        if token != Token::Identifier {
            return failed(format!("found '{key}', expected: identifier"));
        }
        check("<nil>", key, &names::qualified_name(key))?;
        if negated {
            return Ok(Requirement::new(key, Operator::DoesNotExist, &[]));
        }
        if matches!(self.peek(Context::Values).0, Token::End | Token::Comma) {
            return Ok(Requirement::new(key, Operator::Exists, &[]));
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        let requirement = Requirement::new(key, operator, &values);
        check_requirement(&requirement)?;
        Ok(requirement)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        match self.next(Context::KeyAndOperator) {
            (Token::In, _) => Ok(Operator::In),
            (Token::NotIn, _) => Ok(Operator::NotIn),
            (Token::Equals | Token::DoubleEquals, _) => Ok(Operator::Equals),
            (Token::NotEquals, _) => Ok(Operator::NotEquals),
            (Token::GreaterThan, _) => Ok(Operator::GreaterThan),
            (Token::LessThan, _) => Ok(Operator::LessThan),
            (_, found) => {
                failed(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"))
            }
        }
    }

    fn value(&mut self) -> Result<&'a str, SelectorError> {
        if matches!(self.peek(Context::Values).0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.next(Context::Values) {
            (Token::Identifier, value) => Ok(value),
            (_, found) => failed(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a,b)`; nothing between commas or parentheses is the empty value.
    fn values(&mut self) -> Result<Vec<&'a str>, SelectorError> {
        let (token, found) = self.next(Context::Values);
        if token != Token::OpenPar {
            return failed(format!("found '{found}' expected: '('"));
        }
        match self.peek(Context::Values) {
            (Token::Identifier | Token::Comma, _) => {}
            (Token::ClosedPar, _) => {
                self.next(Context::Values);
                return Ok(vec![""]);
            }
            (_, found) => {
                return failed(format!("found '{found}', expected: ',', ')' or identifier"));
            }
        }
        let mut values = Vec::new();
        loop {
            match self.next(Context::Values) {
                (Token::Identifier, value) => {
                    values.push(value);
                    match self.peek(Context::Values) {
                        (Token::Comma, _) => {}
                        (Token::ClosedPar, _) => break,
                        (_, found) => {
                            return failed(format!("found '{found}', expected: ',' or ')'"));
                        }
                    }
                }
                (Token::Comma, _) => {
                    let next = self.peek(Context::Values).0;
                    if values.is_empty() || matches!(next, Token::ClosedPar | Token::Comma) {
                        values.push("");
                    }
                    if next == Token::ClosedPar {
                        break;
                    }
                }
                (_, found) => {
                    return failed(format!("found '{found}', expected: ',', or identifier"));
                }
            }
        }
        self.next(Context::Values);
        Ok(values)
    }
}

fn check(path: &str, value: &str, texts: &[String]) -> Result<(), SelectorError> {
    if texts.is_empty() {
        return Ok(());
    }
    failed(format!("{path}: Invalid value: {}: {}", print_value(&value.into()), texts.join("; ")))
}

fn check_requirement(requirement: &Requirement) -> Result<(), SelectorError> {
    let ordered = matches!(requirement.operator, Operator::GreaterThan | Operator::LessThan);
    let mut texts = Vec::new();
    for (index, value) in requirement.values.iter().enumerate() {
        let at = format!("values[{index}]");
        if ordered && value.parse::<i64>().is_err() {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer".to_string();
            texts.extend(check(&at, value, &[why]).err());
        }
        let at = format!("{at}[{}]", requirement.key);
        texts.extend(check(&at, value, &names::label_value(value)).err());
    }
    match texts.len() {
        0 => Ok(()),
        1 => Err(texts.remove(0)),
        _ => {
            let all: Vec<String> = texts.into_iter().map(|error| error.0).collect();
            failed(format!("[{}]", all.join(", ")))
        }
    }
}

/// Parses a label selector.
pub(super) fn label_selector(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    Parser { tokens: lex(text), position: 0 }.selector()
}
