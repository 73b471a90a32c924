"""How good a monitor is: its scores of labelled episodes, with intervals, and the card that says so."""
