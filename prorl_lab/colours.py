"""The project's colours, for every figure.

Where lines of two of them cross, the markers differ as well: orange and red are one colour to some readers.
"""

GREY, ORANGE, BLUE = "#8c8c8c", "#e8a33d", "#2f6db3"  # base, middle, final
RED, GREEN, TEAL, PURPLE, BROWN = "#c0392b", "#1e8449", "#2a9d8f", "#7a5195", "#8d6e63"
DARK, LINE, PALE, PALE_BLUE, PALE_GREEN = "#444444", "#999999", "#e3e3e3", "#b9cfe4", "#dceadf"
