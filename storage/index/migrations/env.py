"""Alembic's entry: runs the migrations on the connection that `storage.index.upgrade` has opened and locked."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
