"""Studies, `classyq study NAME`: training runs side by side, and claims of the paper put to the test."""
