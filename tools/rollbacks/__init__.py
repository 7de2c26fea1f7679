"""What a migration did to a database, and the SQL that takes it back."""
