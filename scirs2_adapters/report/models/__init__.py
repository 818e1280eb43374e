"""Models for the report, each in its framework, as adapters of the demo: they start, train and compare as those do."""
