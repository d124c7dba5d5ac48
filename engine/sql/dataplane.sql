-- The tables of Bluesky's AppView data plane, as its own migrations leave them: every column, type,
-- default, generated expression, constraint and index. Read by `headrace schema create`, which runs
-- it, and by `headrace schema check`, which parses it (engine/sql/dataplane.py): one definition a
-- line, constraints and index definitions in the words of pg_get_constraintdef and pg_get_indexdef.
--
-- Times are ISO strings, compared as text. Nothing of ours is in here.


-- Records and repositories

-- Every indexed record as JSON text, whatever its collection.
CREATE TABLE record (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    did varchar NOT NULL,
    json text NOT NULL,
    "indexedAt" varchar NOT NULL,
    "takedownRef" varchar,
    tags jsonb,
    CONSTRAINT record_pkey PRIMARY KEY (uri)
);
CREATE INDEX record_did_idx ON record USING btree (did);

-- One row an account: handle, upstream status, and what moderation and age checks say.
CREATE TABLE actor (
    did varchar NOT NULL,
    handle varchar,
    "indexedAt" varchar NOT NULL,
    "takedownRef" varchar,
    "upstreamStatus" varchar,
    "trustedVerifier" boolean NOT NULL DEFAULT false,
    "ageAssuranceStatus" text,
    "ageAssuranceLastInitiatedAt" varchar,
    "ageAssuranceAccess" text,
    "ageAssuranceCountryCode" text,
    "ageAssuranceRegionCode" text,
    CONSTRAINT actor_pkey PRIMARY KEY (did),
    CONSTRAINT actor_handle_key UNIQUE (handle)
);
CREATE INDEX actor_handle_tgrm_idx ON actor USING gist (handle gist_trgm_ops);

-- The last commit applied of each repository.
CREATE TABLE actor_sync (
    did varchar NOT NULL,
    "commitCid" varchar NOT NULL,
    "repoRev" varchar,
    CONSTRAINT actor_sync_pkey PRIMARY KEY (did)
);

-- Records that lost a unique key to an older one, kept to take its place.
CREATE TABLE duplicate_record (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    "duplicateOf" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    CONSTRAINT duplicate_record_pkey PRIMARY KEY (uri)
);
CREATE INDEX duplicate_record_duplicate_of_idx ON duplicate_record USING btree ("duplicateOf");


-- Posts

-- Posts, with flags judged from other records.
CREATE TABLE post (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    text varchar NOT NULL,
    "replyRoot" varchar,
    "replyRootCid" varchar,
    "replyParent" varchar,
    "replyParentCid" varchar,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    langs jsonb,
    "invalidReplyRoot" boolean,
    "violatesThreadGate" boolean,
    tags jsonb,
    "violatesEmbeddingRules" boolean,
    "hasThreadGate" boolean,
    "hasPostGate" boolean,
    CONSTRAINT post_pkey PRIMARY KEY (uri)
);
CREATE INDEX post_creator_cursor_idx ON post USING btree (creator, "sortAt", cid);
CREATE INDEX post_order_by_idx ON post USING btree ("sortAt", cid);
CREATE INDEX post_replyparent_idx ON post USING btree ("replyParent") INCLUDE (uri);

-- Images of a post; position is a decimal string.
CREATE TABLE post_embed_image (
    "postUri" varchar NOT NULL,
    "position" varchar NOT NULL,
    "imageCid" varchar NOT NULL,
    alt varchar NOT NULL,
    CONSTRAINT post_embed_image_pkey PRIMARY KEY ("postUri", "position")
);

-- Images of a gallery; position is a decimal string.
CREATE TABLE post_embed_gallery_image (
    "postUri" varchar NOT NULL,
    "position" varchar NOT NULL,
    "imageCid" varchar NOT NULL,
    alt varchar NOT NULL,
    CONSTRAINT post_embed_gallery_image_pkey PRIMARY KEY ("postUri", "position")
);

-- The link card of a post.
CREATE TABLE post_embed_external (
    "postUri" varchar NOT NULL,
    uri varchar NOT NULL,
    title varchar NOT NULL,
    description varchar NOT NULL,
    "thumbCid" varchar,
    CONSTRAINT post_embed_external_pkey PRIMARY KEY ("postUri")
);

-- The record that a post quotes.
CREATE TABLE post_embed_record (
    "postUri" varchar NOT NULL,
    "embedUri" varchar NOT NULL,
    "embedCid" varchar NOT NULL,
    CONSTRAINT post_embed_record_pkey PRIMARY KEY ("postUri", "embedUri")
);

-- The video of a post.
CREATE TABLE post_embed_video (
    "postUri" varchar NOT NULL,
    "videoCid" varchar NOT NULL,
    alt varchar,
    CONSTRAINT post_embed_video_pkey PRIMARY KEY ("postUri")
);

-- Which post quotes which.
CREATE TABLE quote (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    subject varchar NOT NULL,
    "subjectCid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT quote_pkey PRIMARY KEY (uri)
);
CREATE INDEX quote_subject_cursor_idx ON quote USING btree (subject, "sortAt", cid);

-- The author's own replies that continue a thread.
CREATE TABLE op_thread_reply (
    "rootUri" varchar NOT NULL,
    "parentUri" varchar NOT NULL,
    uri varchar NOT NULL,
    "deletedAt" varchar,
    CONSTRAINT op_thread_reply_pkey PRIMARY KEY ("rootUri", uri)
);

-- Counts of a post.
CREATE TABLE post_agg (
    uri varchar NOT NULL,
    "likeCount" bigint NOT NULL DEFAULT 0,
    "replyCount" bigint NOT NULL DEFAULT 0,
    "repostCount" bigint NOT NULL DEFAULT 0,
    "quoteCount" bigint NOT NULL DEFAULT 0,
    "bookmarkCount" bigint NOT NULL DEFAULT 0,
    CONSTRAINT post_agg_pkey PRIMARY KEY (uri)
);

-- Posts and reposts by author and time: author feeds and timelines.
CREATE TABLE feed_item (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    type varchar NOT NULL,
    "postUri" varchar NOT NULL,
    "originatorDid" varchar NOT NULL,
    "sortAt" varchar NOT NULL,
    CONSTRAINT feed_item_pkey PRIMARY KEY (uri)
);
CREATE INDEX feed_item_cursor_idx ON feed_item USING btree ("sortAt", cid);
CREATE INDEX feed_item_originator_cursor_idx ON feed_item USING btree ("originatorDid", "sortAt", cid);
CREATE INDEX feed_item_post_uri_idx ON feed_item USING btree ("postUri");

-- Who may reply to a post.
CREATE TABLE thread_gate (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "postUri" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    CONSTRAINT thread_gate_pkey PRIMARY KEY (uri),
    CONSTRAINT "thread_gate_postUri_key" UNIQUE ("postUri")
);

-- Who may quote a post.
CREATE TABLE post_gate (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "postUri" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    CONSTRAINT post_gate_pkey PRIMARY KEY (uri),
    CONSTRAINT "post_gate_postUri_key" UNIQUE ("postUri")
);

-- Likes.
CREATE TABLE "like" (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    subject varchar NOT NULL,
    "subjectCid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    via varchar,
    "viaCid" varchar,
    CONSTRAINT like_pkey PRIMARY KEY (uri),
    CONSTRAINT like_unique_subject UNIQUE (subject, creator)
);
CREATE INDEX like_creator_cursor_idx ON "like" USING btree (creator, "sortAt", cid);
CREATE INDEX like_subject_sort_at_creator_idx ON "like" USING btree (subject, "sortAt" DESC) INCLUDE (creator);

-- Reposts.
CREATE TABLE repost (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    subject varchar NOT NULL,
    "subjectCid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    via varchar,
    "viaCid" varchar,
    CONSTRAINT repost_pkey PRIMARY KEY (uri),
    CONSTRAINT repost_unique_subject UNIQUE (creator, subject)
);
CREATE INDEX repost_order_by_idx ON repost USING btree ("sortAt", cid);
CREATE INDEX repost_subject_idx ON repost USING btree (subject);

-- Feed generators.
CREATE TABLE feed_generator (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "feedDid" varchar NOT NULL,
    "displayName" varchar,
    description varchar,
    "descriptionFacets" varchar,
    "avatarCid" varchar,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT feed_generator_pkey PRIMARY KEY (uri)
);
CREATE INDEX feed_generator_creator_index ON feed_generator USING btree (creator);


-- Actors and the graph

-- Profiles; pinned posts and starter packs as the record names them.
CREATE TABLE profile (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "displayName" varchar,
    description varchar,
    "avatarCid" varchar,
    "bannerCid" varchar,
    "indexedAt" varchar NOT NULL,
    "joinedViaStarterPackUri" varchar,
    "createdAt" varchar NOT NULL,
    "pinnedPost" varchar,
    "pinnedPostCid" varchar,
    CONSTRAINT profile_pkey PRIMARY KEY (uri)
);
CREATE INDEX profile_creator_idx ON profile USING btree (creator);
CREATE INDEX profile_display_name_tgrm_idx ON profile USING gist ("displayName" gist_trgm_ops);
CREATE INDEX profile_starter_pack_joined_idx ON profile USING btree ("joinedViaStarterPackUri", "createdAt");

-- Counts of an account.
CREATE TABLE profile_agg (
    did varchar NOT NULL,
    "followersCount" bigint NOT NULL DEFAULT 0,
    "followsCount" bigint NOT NULL DEFAULT 0,
    "postsCount" bigint NOT NULL DEFAULT 0,
    CONSTRAINT profile_agg_pkey PRIMARY KEY (did)
);

-- Follows.
CREATE TABLE follow (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT follow_pkey PRIMARY KEY (uri),
    CONSTRAINT follow_unique_subject UNIQUE (creator, "subjectDid")
);
CREATE INDEX follow_creator_cursor_idx ON follow USING btree (creator, "sortAt", cid);
CREATE INDEX follow_subject_cursor_idx ON follow USING btree ("subjectDid", "sortAt", cid);

-- Blocks of one account by another.
CREATE TABLE actor_block (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT actor_block_pkey PRIMARY KEY (uri),
    CONSTRAINT actor_block_unique_subject UNIQUE (creator, "subjectDid")
);
CREATE INDEX actor_block_subjectdid_idx ON actor_block USING btree ("subjectDid");

-- Lists.
CREATE TABLE list (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    name varchar NOT NULL,
    purpose varchar NOT NULL,
    description varchar,
    "descriptionFacets" varchar,
    "avatarCid" varchar,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT list_pkey PRIMARY KEY (uri)
);
CREATE INDEX list_creator_idx ON list USING btree (creator);

-- Members of lists.
CREATE TABLE list_item (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    "listUri" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT list_item_pkey PRIMARY KEY (uri),
    CONSTRAINT list_item_unique_subject_in_list UNIQUE ("listUri", "subjectDid")
);
CREATE INDEX list_item_creator_idx ON list_item USING btree (creator);
CREATE INDEX list_item_subject_idx ON list_item USING btree ("subjectDid");

-- Blocks of a whole list.
CREATE TABLE list_block (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "subjectUri" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT list_block_pkey PRIMARY KEY (uri),
    CONSTRAINT list_block_unique_subject UNIQUE (creator, "subjectUri")
);

-- Starter packs.
CREATE TABLE starter_pack (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    name varchar,
    CONSTRAINT starter_pack_pkey PRIMARY KEY (uri)
);
CREATE INDEX starter_pack_creator_order_by_idx ON starter_pack USING btree (creator, "sortAt", cid);
CREATE INDEX starter_pack_name_tgrm_idx ON starter_pack USING gist (name gist_trgm_ops);

-- Verifications of one account by another.
CREATE TABLE verification (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    rkey varchar NOT NULL,
    creator varchar NOT NULL,
    subject varchar NOT NULL,
    handle varchar NOT NULL,
    "displayName" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortedAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT verification_pkey PRIMARY KEY (uri),
    CONSTRAINT verification_unique_subject_creator UNIQUE (subject, creator)
);


-- Labels and notifications

-- Labeler services.
CREATE TABLE labeler (
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    creator varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    "sortAt" varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT labeler_pkey PRIMARY KEY (uri)
);
CREATE INDEX labeler_order_by_idx ON labeler USING btree ("sortAt", cid);

-- Labels; cid is empty when a label is about every version.
CREATE TABLE label (
    src varchar NOT NULL,
    uri varchar NOT NULL,
    cid varchar NOT NULL,
    val varchar NOT NULL,
    neg boolean NOT NULL,
    cts varchar NOT NULL,
    exp varchar,
    CONSTRAINT label_pkey PRIMARY KEY (src, uri, cid, val)
);
CREATE INDEX label_cts_idx ON label USING btree (cts);
CREATE INDEX label_uri_index ON label USING btree (uri);

-- Notifications; no key but the id.
CREATE TABLE notification (
    id bigserial NOT NULL,
    did varchar NOT NULL,
    "recordUri" varchar NOT NULL,
    "recordCid" varchar NOT NULL,
    author varchar NOT NULL,
    reason varchar NOT NULL,
    "reasonSubject" varchar,
    "sortAt" varchar NOT NULL,
    CONSTRAINT notification_pkey PRIMARY KEY (id)
);
CREATE INDEX notification_author_idx ON notification USING btree (author);
CREATE INDEX notification_did_sortat_idx ON notification USING btree (did, "sortAt");
CREATE INDEX notification_record_idx ON notification USING btree ("recordUri");

-- Devices to push to.
CREATE TABLE notification_push_token (
    did varchar NOT NULL,
    platform varchar NOT NULL,
    token varchar NOT NULL,
    "appId" varchar NOT NULL,
    CONSTRAINT notification_push_token_pkey PRIMARY KEY (did, token)
);


-- Private state of the AppView's users: never written by indexing

-- When an account last saw its notifications.
CREATE TABLE actor_state (
    did varchar NOT NULL,
    "lastSeenNotifs" varchar NOT NULL,
    "priorityNotifs" boolean NOT NULL DEFAULT false,
    "lastSeenPriorityNotifs" varchar,
    CONSTRAINT actor_state_pkey PRIMARY KEY (did)
);

-- Subscriptions to other accounts' activity.
CREATE TABLE activity_subscription (
    creator varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    key varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    post boolean NOT NULL,
    reply boolean NOT NULL,
    CONSTRAINT activity_subscription_pkey PRIMARY KEY (creator, key),
    CONSTRAINT activity_subscription_unique_creator_subject_did UNIQUE (creator, "subjectDid")
);

-- Bookmarks.
CREATE TABLE bookmark (
    creator varchar NOT NULL,
    key varchar NOT NULL,
    "subjectUri" varchar NOT NULL,
    "subjectCid" varchar NOT NULL,
    "indexedAt" varchar NOT NULL,
    CONSTRAINT bookmark_pkey PRIMARY KEY (creator, key),
    CONSTRAINT bookmark_unique_uri_creator UNIQUE ("subjectUri", creator)
);

-- Drafts.
CREATE TABLE draft (
    creator varchar NOT NULL,
    key varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "updatedAt" varchar NOT NULL,
    payload text NOT NULL,
    CONSTRAINT draft_pkey PRIMARY KEY (creator, key)
);
CREATE INDEX draft_creator_updated_at_key_idx ON draft USING btree (creator, "updatedAt", key);

-- Muted accounts.
CREATE TABLE mute (
    "subjectDid" varchar NOT NULL,
    "mutedByDid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    "onlyReposts" boolean NOT NULL DEFAULT false,
    "onlyQuoteposts" boolean NOT NULL DEFAULT false,
    CONSTRAINT mute_pkey PRIMARY KEY ("mutedByDid", "subjectDid")
);

-- Muted lists.
CREATE TABLE list_mute (
    "listUri" varchar NOT NULL,
    "mutedByDid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    CONSTRAINT list_mute_pkey PRIMARY KEY ("mutedByDid", "listUri")
);

-- Muted threads: read before a notification is written.
CREATE TABLE thread_mute (
    "rootUri" varchar NOT NULL,
    "mutedByDid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    CONSTRAINT thread_mute_pkey PRIMARY KEY ("rootUri", "mutedByDid")
);

-- Preferences and other private records.
CREATE TABLE private_data (
    "actorDid" varchar NOT NULL,
    namespace varchar NOT NULL,
    key varchar NOT NULL,
    payload text NOT NULL,
    "indexedAt" varchar NOT NULL,
    "updatedAt" varchar NOT NULL,
    CONSTRAINT private_data_pkey PRIMARY KEY ("actorDid", namespace, key)
);


-- Suggestions and caches: written by hand or not at all

-- Feeds suggested to everyone.
CREATE TABLE suggested_feed (
    uri varchar NOT NULL,
    "order" integer NOT NULL,
    CONSTRAINT suggested_feed_pkey PRIMARY KEY (uri)
);

-- Accounts suggested to everyone.
CREATE TABLE suggested_follow (
    did varchar NOT NULL,
    "order" integer NOT NULL,
    CONSTRAINT suggested_follow_pkey PRIMARY KEY (did)
);

-- Suggestions by tag.
CREATE TABLE tagged_suggestion (
    tag varchar NOT NULL,
    subject varchar NOT NULL,
    "subjectType" varchar NOT NULL,
    CONSTRAINT tagged_suggestion_pkey PRIMARY KEY (tag, subject)
);

-- Resolved DID documents.
CREATE TABLE did_cache (
    did varchar NOT NULL,
    doc jsonb NOT NULL,
    "updatedAt" bigint NOT NULL,
    CONSTRAINT did_cache_pkey PRIMARY KEY (did)
);

-- Cursors of an early indexer.
CREATE TABLE subscription (
    service varchar NOT NULL,
    method varchar NOT NULL,
    state varchar NOT NULL,
    CONSTRAINT subscription_pkey PRIMARY KEY (service, method)
);

-- Parameters of algo_whats_hot_view, which cannot be changed in place.
CREATE TABLE view_param (
    name varchar NOT NULL,
    value varchar,
    CONSTRAINT view_param_pkey PRIMARY KEY (name)
);
INSERT INTO view_param (name, value) VALUES
    ('whats_hot_like_threshold', '2'),
    ('whats_hot_interval', '1day');

-- Blobs taken down.
CREATE TABLE blob_takedown (
    did varchar NOT NULL,
    cid varchar NOT NULL,
    "takedownRef" varchar NOT NULL,
    CONSTRAINT blob_takedown_pkey PRIMARY KEY (did, cid)
);


-- Moderation, from before it had a service of its own

-- Actions taken.
CREATE TABLE moderation_action (
    id serial NOT NULL,
    action varchar NOT NULL,
    "subjectType" varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    "subjectUri" varchar,
    "subjectCid" varchar,
    reason text NOT NULL,
    "createdAt" varchar NOT NULL,
    "createdBy" varchar NOT NULL,
    "reversedAt" varchar,
    "reversedBy" varchar,
    "reversedReason" text,
    "createLabelVals" varchar,
    "negateLabelVals" varchar,
    "durationInHours" integer,
    "expiresAt" varchar,
    CONSTRAINT moderation_action_pkey PRIMARY KEY (id)
);

-- Blobs that an action is about.
CREATE TABLE moderation_action_subject_blob (
    "actionId" integer NOT NULL,
    cid varchar NOT NULL,
    CONSTRAINT moderation_action_subject_blob_pkey PRIMARY KEY ("actionId", cid),
    CONSTRAINT "moderation_action_subject_blob_actionId_fkey" FOREIGN KEY ("actionId") REFERENCES moderation_action(id)
);
CREATE INDEX moderation_action_subject_blob_cid_idx ON moderation_action_subject_blob USING btree (cid);

-- Events of moderation.
CREATE TABLE moderation_event (
    id serial NOT NULL,
    action varchar NOT NULL,
    "subjectType" varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    "subjectUri" varchar,
    "subjectCid" varchar,
    comment text,
    meta jsonb,
    "createdAt" varchar NOT NULL,
    "createdBy" varchar NOT NULL,
    "reversedAt" varchar,
    "reversedBy" varchar,
    "durationInHours" integer,
    "expiresAt" varchar,
    "reversedReason" text,
    "createLabelVals" varchar,
    "negateLabelVals" varchar,
    "legacyRefId" integer,
    CONSTRAINT moderation_event_pkey PRIMARY KEY (id)
);

-- Reports.
CREATE TABLE moderation_report (
    id serial NOT NULL,
    "subjectType" varchar NOT NULL,
    "subjectDid" varchar NOT NULL,
    "subjectUri" varchar,
    "subjectCid" varchar,
    "reasonType" varchar NOT NULL,
    reason text,
    "reportedByDid" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    CONSTRAINT moderation_report_pkey PRIMARY KEY (id)
);

-- Which action resolved which report.
CREATE TABLE moderation_report_resolution (
    "reportId" integer NOT NULL,
    "actionId" integer NOT NULL,
    "createdBy" varchar NOT NULL,
    "createdAt" varchar NOT NULL,
    CONSTRAINT moderation_report_resolution_pkey PRIMARY KEY ("reportId", "actionId"),
    CONSTRAINT "moderation_report_resolution_actionId_fkey" FOREIGN KEY ("actionId") REFERENCES moderation_action(id),
    CONSTRAINT "moderation_report_resolution_reportId_fkey" FOREIGN KEY ("reportId") REFERENCES moderation_report(id)
);
CREATE INDEX moderation_report_resolution_action_id_idx ON moderation_report_resolution USING btree ("actionId");

-- What is decided about a subject.
CREATE TABLE moderation_subject_status (
    id serial NOT NULL,
    did varchar NOT NULL,
    "recordPath" varchar NOT NULL DEFAULT ''::character varying,
    "blobCids" jsonb,
    "recordCid" varchar,
    "reviewState" varchar NOT NULL,
    comment varchar,
    "muteUntil" varchar,
    "lastReviewedAt" varchar,
    "lastReviewedBy" varchar,
    "lastReportedAt" varchar,
    takendown boolean NOT NULL DEFAULT false,
    "suspendUntil" varchar,
    "createdAt" varchar NOT NULL,
    "updatedAt" varchar NOT NULL,
    CONSTRAINT moderation_subject_status_pkey PRIMARY KEY (id),
    CONSTRAINT moderation_status_unique_idx UNIQUE (did, "recordPath")
);
CREATE INDEX moderation_subject_status_blob_cids_idx ON moderation_subject_status USING gin ("blobCids");


-- A view of an early feed, never refreshed by the indexing path

-- Posts of the last day scored by likes over age.
CREATE MATERIALIZED VIEW algo_whats_hot_view AS
SELECT
    post.uri,
    post.cid,
    round(1000000 * (post_agg."likeCount"
        / ((extract(epoch FROM age(now(), post."indexedAt"::timestamp)) / 3600 + 2) ^ 1.8))) AS score
FROM post
INNER JOIN post_agg ON post_agg.uri = post.uri
WHERE post."indexedAt" > (
        SELECT to_char(now() - value::interval, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS val
        FROM view_param WHERE name = 'whats_hot_interval')
    AND post."replyParent" IS NULL
    AND post_agg."likeCount" > (
        SELECT value::integer AS val FROM view_param WHERE name = 'whats_hot_like_threshold')
WITH NO DATA;
CREATE UNIQUE INDEX algo_whats_hot_view_uri_idx ON algo_whats_hot_view USING btree (uri);
CREATE INDEX algo_whats_hot_view_cursor_idx ON algo_whats_hot_view USING btree (score, cid);


-- The bookkeeping of the AppView's migration tool: with every name recorded, it finds nothing to do

CREATE TABLE kysely_migration (
    name varchar(255) NOT NULL,
    timestamp varchar(255) NOT NULL,
    CONSTRAINT kysely_migration_pkey PRIMARY KEY (name)
);

CREATE TABLE kysely_migration_lock (
    id varchar(255) NOT NULL,
    is_locked integer NOT NULL DEFAULT 0,
    CONSTRAINT kysely_migration_lock_pkey PRIMARY KEY (id)
);
INSERT INTO kysely_migration_lock (id, is_locked) VALUES ('migration_lock', 0);

INSERT INTO kysely_migration (name, timestamp)
SELECT name, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM unnest(ARRAY[
    '_20230309T045948368Z',
    '_20230408T152211201Z',
    '_20230417T210628672Z',
    '_20230420T211446071Z',
    '_20230427T194702079Z',
    '_20230605T144730094Z',
    '_20230607T211442112Z',
    '_20230608T155101190Z',
    '_20230608T201813132Z',
    '_20230608T205147239Z',
    '_20230609T153623961Z',
    '_20230609T232122649Z',
    '_20230610T203555962Z',
    '_20230611T215300060Z',
    '_20230620T161134972Z',
    '_20230627T212437895Z',
    '_20230629T220835893Z',
    '_20230703T045536691Z',
    '_20230720T164800037Z',
    '_20230807T035309811Z',
    '_20230808T172902639Z',
    '_20230810T203349843Z',
    '_20230817T195936007Z',
    '_20230830T205507322Z',
    '_20230904T211011773Z',
    '_20230906T222220386Z',
    '_20230920T213858047Z',
    '_20230929T192920807Z',
    '_20231003T202833377Z',
    '_20231220T225126090Z',
    '_20240124T023719200Z',
    '_20240226T225725627Z',
    '_20240530T170337073Z',
    '_20240606T171229898Z',
    '_20240606T222548219Z',
    '_20240719T203853939Z',
    '_20240723T220700077Z',
    '_20240723T220703655Z',
    '_20240801T193939827Z',
    '_20240808T224251220Z',
    '_20240829T211238293Z',
    '_20240831T134810923Z',
    '_20241114T153108102Z',
    '_20250116T222618297Z',
    '_20250207T174822012Z',
    '_20250404T163421487Z',
    '_20250526T023712742Z',
    '_20250528T221913281Z',
    '_20250602T190357447Z',
    '_20250611T140649895Z',
    '_20250627T025331240Z',
    '_20250812T183735692Z',
    '_20250813T174955711Z',
    '_20251120T004738098Z',
    '_20260112T133951271Z',
    '_20260604T224952774Z',
    '_20260618T200000000Z',
    '_20260729T223157563Z',
    '_20260819T170000000Z'
]) AS name;
