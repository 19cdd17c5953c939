"""What the commands do with their settings: networks, trainings, tests."""
