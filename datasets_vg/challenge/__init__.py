"""The MSLS challenge: prediction files of its cities joined into what is sent, and scored here, city by city."""
