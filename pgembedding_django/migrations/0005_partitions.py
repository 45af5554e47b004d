from importlib import import_module

from django.db import migrations, models

from pgembedding_django.operations import ReplaceView

# As in 0003, but what is counted of an index of a partitioned table is the sum of its parts, and of a standby, which
# counts no dead rows, their share is not known.
INDEX_STATUS = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name,
    t.relname::text AS "table", t.oid::bigint AS table_oid,
    coalesce(k.attname::text, '') AS "column", i.indpred IS NOT NULL AS partial,
    md5(concat_ws(' ', i.indkey::text, i.indexprs::text, i.indpred::text)) AS signature,
    format_type(a.atttypid, NULL) AS type,
    coalesce(nullif(a.atttypmod, -1), (o.options ->> 'dims')::integer) AS dimensions,
    p.opcname::text AS opclass, o.options,
    i.indisvalid AS valid, i.indisready AS ready, i.indislive AS live,
    c.relkind = 'I' AS partitioned, h.inhparent::bigint AS parent_oid,
    s.size, s.rows,
    CASE WHEN NOT pg_is_in_recovery() THEN coalesce(s.dead::double precision / nullif(s.live + s.dead, 0), 0) END
        AS dead_share,
    s.scans, s.entries_read,
    pg_stat_get_db_stat_reset_time(b.oid) AS stats_reset,
    (SELECT max(g.pid) FROM pg_stat_progress_create_index g JOIN pg_locks l ON l.pid = g.pid AND l.granted
        WHERE l.locktype = 'relation' AND l.database = b.oid AND (
            (l.relation = c.oid AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock'))
            OR (NOT i.indisvalid AND l.relation = t.oid AND l.mode = 'ShareUpdateExclusiveLock'
                AND coalesce(g.index_relid, 0) IN (0, c.oid)))) AS building_pid,
    n.nspname || '.' || c.relname AS label
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam AND m.amname = 'hnsw'
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
JOIN pg_opclass p ON p.oid = i.indclass[0]
JOIN pg_database b ON b.datname = current_database()
LEFT JOIN pg_attribute k ON k.attrelid = t.oid AND k.attnum = CASE WHEN i.indexprs IS NULL THEN i.indkey[0] ELSE
    (SELECT coalesce(min(x.refobjsubid) FILTER (WHERE y.atttypid::regtype::text ~ 'vec'), min(x.refobjsubid))
    FROM pg_depend x JOIN pg_attribute y ON y.attrelid = t.oid AND y.attnum = x.refobjsubid
    WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.refclassid = 'pg_class'::regclass
    AND x.refobjid = t.oid) END
LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(option_name, option_value), '{}') AS options
    FROM pg_options_to_table(c.reloptions)) o
CROSS JOIN LATERAL (
    WITH RECURSIVE parts AS (
        SELECT c.oid AS part, t.oid AS on_table
        UNION ALL SELECT g.inhrelid, y.indrelid FROM parts JOIN pg_inherits g ON g.inhparent = parts.part
            JOIN pg_index y ON y.indexrelid = g.inhrelid
    )
    SELECT coalesce(sum(pc.relpages)::bigint, 0) * current_setting('block_size')::bigint AS size,
        sum(nullif(pt.reltuples, -1))::bigint AS rows,
        coalesce(sum(pg_stat_get_numscans(pc.oid))::bigint, 0) AS scans,
        coalesce(sum(pg_stat_get_tuples_returned(pc.oid))::bigint, 0) AS entries_read,
        sum(pg_stat_get_live_tuples(pt.oid)) AS live, sum(pg_stat_get_dead_tuples(pt.oid)) AS dead
    FROM parts JOIN pg_class pc ON pc.oid = parts.part JOIN pg_class pt ON pt.oid = parts.on_table
    WHERE pc.relkind = 'i'
) s
WHERE c.relpersistence <> 't'
"""

BEFORE = import_module("pgembedding_django.migrations.0003_index_label").INDEX_STATUS


class Migration(migrations.Migration):

    dependencies = [
        ("pgembedding_django", "0004_embed_claim"),
    ]

    operations = [
        migrations.AlterField("hnswindexstatus", "dead_share", models.FloatField(null=True)),
        ReplaceView("pgembedding_hnsw_index", INDEX_STATUS, BEFORE),
    ]
