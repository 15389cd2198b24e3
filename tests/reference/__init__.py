"""The plainest form of every layer: loops that anyone can check against the paper, and nothing clever."""
