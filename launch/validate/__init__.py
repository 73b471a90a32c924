"""`shaping validate`: how good is a monitor, on labelled episodes of players, models and runs?"""
