"""The seam of a claim: settings, runs, measurements, checks, verdict."""
