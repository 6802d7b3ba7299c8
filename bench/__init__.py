"""The gateway measured as its users meet it: through its two doors, with a real process behind them.

Nothing here imports the gateway's own code, so that a mistake in it cannot hide from its own measure.
"""
