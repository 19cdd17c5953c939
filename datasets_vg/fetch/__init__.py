"""Getting archives here: from web servers, Google Drive and rsync servers, and out of their wrapping."""
