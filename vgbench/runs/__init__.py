"""What the doors do with their settings: networks, trainings, tests; between the doors and the rooms that they call."""
