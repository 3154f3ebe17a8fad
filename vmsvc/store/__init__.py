"""The truth: PostgreSQL through Peewee. Everything here is synchronous and runs in the database pool."""
