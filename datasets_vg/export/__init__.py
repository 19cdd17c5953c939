"""`python3 -m datasets_vg export`: a dataset of the folder protocol in another project's layout."""
