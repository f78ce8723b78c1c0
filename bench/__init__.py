"""What a span costs: our hooks beside OpenTelemetry's, measured in one run against budgets. See docs/performance.md."""
