"""Optimisers, schedules, averaged weights and the step itself."""
