"""superorm: typed documents, vectors and models on MongoDB, with the manners of SQLAlchemy 2.0."""
