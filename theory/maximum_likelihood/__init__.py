"""Maximum likelihood on instances whose KL and coverage are sums."""
