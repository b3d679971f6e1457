"""The comparison: config -> records -> table -> figures."""
