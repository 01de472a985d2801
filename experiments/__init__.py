"""Published claims put to the test: entry points, verdicts, reports and figures."""
