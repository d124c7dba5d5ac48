-- copy
COPY "notification" ("did", "author", "recordUri", "recordCid", "reason", "reasonSubject", "sortAt") FROM STDIN (FORMAT binary);
