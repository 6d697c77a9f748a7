"""Which release this is: parties compare it, so modules that must not import the whole package can tell it."""

RELEASE = "0.1.0"
