//! Values that go in and out of exported functions, with their Rust types.

use wasmer::Value as WasmerValue;

/// A number of WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A 32-bit integer, signed or not.
    I32(i32),
    /// A 64-bit integer, signed or not.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
}

/// The type of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `i32`.
    I32,
    /// `i64`.
    I64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

mod sealed {
    pub trait Sealed {}
    /// A number by itself.
    pub trait Scalar: super::Values {}
}

/// Parameters or results of an exported function: `()`, a number, or a tuple of up
/// to four numbers. Nothing else can implement it.
pub trait Values: sealed::Sealed + Sized {
    /// The types, in order.
    const TYPES: &'static [ValueType];

    /// The values, in order.
    fn into_values(self) -> Vec<Value>;

    /// From values of exactly these types.
    fn from_values(values: &[Value]) -> Option<Self>;
}

macro_rules! number {
    ($rust:ty, $variant:ident) => {
        impl sealed::Sealed for $rust {}
        impl sealed::Scalar for $rust {}

        impl Values for $rust {
            const TYPES: &'static [ValueType] = &[ValueType::$variant];

            fn into_values(self) -> Vec<Value> {
                vec![Value::$variant(self)]
            }

            fn from_values(values: &[Value]) -> Option<Self> {
                match values {
                    [Value::$variant(value)] => Some(*value),
                    _ => None,
                }
            }
        }
    };
}

number!(i32, I32);
number!(i64, I64);
number!(f32, F32);
number!(f64, F64);

macro_rules! tuple {
    ($($name:ident),*) => {
        impl<$($name: sealed::Scalar),*> sealed::Sealed for ($($name,)*) {}

        impl<$($name: sealed::Scalar),*> Values for ($($name,)*) {
            // Each element is one number, so its first type is its type.
            const TYPES: &'static [ValueType] = &[$($name::TYPES[0]),*];

            fn into_values(self) -> Vec<Value> {
                #[allow(non_snake_case, reason = "named after their types")]
                let ($($name,)*) = self;
                [$($name.into_values()),*].concat()
            }

            fn from_values(values: &[Value]) -> Option<Self> {
                let mut values = values.chunks(1);
                let tuple = ($($name::from_values(values.next()?)?,)*);
                values.next().is_none().then_some(tuple)
            }
        }
    };
}

impl sealed::Sealed for () {}

impl Values for () {
    const TYPES: &'static [ValueType] = &[];

    fn into_values(self) -> Vec<Value> {
        Vec::new()
    }

    fn from_values(values: &[Value]) -> Option<Self> {
        values.is_empty().then_some(())
    }
}

tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);

/// The types by their names in WebAssembly.
pub(crate) fn names(types: &[ValueType]) -> Vec<String> {
    let name = |ty: &ValueType| match ty {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
    };
    types.iter().map(|ty| name(ty).to_owned()).collect()
}

pub(crate) fn to_wasmer(values: &[Value]) -> Vec<WasmerValue> {
    let convert = |value: &Value| match *value {
        Value::I32(v) => WasmerValue::I32(v),
        Value::I64(v) => WasmerValue::I64(v),
        Value::F32(v) => WasmerValue::F32(v),
        Value::F64(v) => WasmerValue::F64(v),
    };
    values.iter().map(convert).collect()
}

/// Vectors and references have no counterpart and are left out; callers check the types first.
pub(crate) fn from_wasmer(values: &[WasmerValue]) -> Vec<Value> {
    let convert = |value: &WasmerValue| match *value {
        WasmerValue::I32(v) => Some(Value::I32(v)),
        WasmerValue::I64(v) => Some(Value::I64(v)),
        WasmerValue::F32(v) => Some(Value::F32(v)),
        WasmerValue::F64(v) => Some(Value::F64(v)),
        _ => None,
    };
    values.iter().filter_map(convert).collect()
}
