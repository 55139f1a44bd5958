-- gallery.db of version 4, as its matchers made it.
CREATE TABLE identity (
    id INTEGER NOT NULL CHECK (id = 1),
    key_id BLOB NOT NULL,
    parameter_set TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE galleries (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    chain BLOB NOT NULL,
    pending_chain BLOB,
    PRIMARY KEY (id),
    UNIQUE (name)
);
CREATE TABLE contents (
    id INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE log (
    gallery_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    token BLOB NOT NULL,
    request_digest BLOB NOT NULL,
    digest BLOB NOT NULL,
    result TEXT NOT NULL,
    model TEXT NOT NULL,
    device TEXT DEFAULT '' NOT NULL,
    valid_share BLOB DEFAULT (x'') NOT NULL,
    PRIMARY KEY (gallery_id, sequence),
    UNIQUE (gallery_id, token),
    FOREIGN KEY(gallery_id) REFERENCES galleries (id)
);
CREATE TABLE packs (
    id INTEGER NOT NULL,
    gallery_id INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    added_in INTEGER NOT NULL,
    removed_in INTEGER,
    content_id INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (gallery_id, pack, added_in),
    FOREIGN KEY(gallery_id, added_in) REFERENCES log (gallery_id, sequence),
    UNIQUE (content_id),
    FOREIGN KEY(content_id) REFERENCES contents (id)
);
CREATE INDEX ix_packs_removed_in ON packs (removed_in);
CREATE TABLE templates (
    id INTEGER NOT NULL,
    gallery_id INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    subject TEXT NOT NULL,
    by_device BOOLEAN DEFAULT 1 NOT NULL,
    added_in INTEGER NOT NULL,
    removed_in INTEGER,
    content_id INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (gallery_id, pack, slot, added_in),
    FOREIGN KEY(gallery_id, added_in) REFERENCES log (gallery_id, sequence),
    UNIQUE (content_id),
    FOREIGN KEY(content_id) REFERENCES contents (id)
);
CREATE INDEX ix_templates_removed_in ON templates (removed_in);
CREATE TABLE retired (
    id INTEGER NOT NULL,
    gallery_id INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    added_in INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (gallery_id, pack, slot),
    FOREIGN KEY(gallery_id, added_in) REFERENCES log (gallery_id, sequence)
);
PRAGMA application_id = 1986357612;
PRAGMA user_version = 4;
