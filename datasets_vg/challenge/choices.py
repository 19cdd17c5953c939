"""Names of the MSLS challenge, apart from what needs NumPy: a command line is read without it."""

CITIES = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")
"""Its six cities."""
ALL = "all"
QUERY_TYPES = ("summer2winter", "winter2summer", "day2night", "night2day", "old2new", "new2old")
"""What queries and database are taken as, beside `all`: columns of subtask_index.csv."""
