"""What people read: built from finished records, without arithmetic of its own beyond shares."""
