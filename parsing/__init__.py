"""Turn bytes and text into Python values. This package knows no event and no log."""
