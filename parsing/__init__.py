"""Parse bytes and text into Python values. Knows no event and no log."""
