from importlib import import_module

from django.db import migrations, models

from pgembedding_django.operations import ReplaceView

# As in 0002, with a label that outlives a rebuild, and the column of an expression whose type is no vector, such as
# (e::vector(3)) over real[].
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
    c.relpages::bigint * current_setting('block_size')::bigint AS size,
    CASE WHEN t.reltuples >= 0 THEN t.reltuples::bigint END AS rows,
    coalesce(s.dead::double precision / nullif(s.live + s.dead, 0), 0) AS dead_share,
    pg_stat_get_numscans(c.oid) AS scans, pg_stat_get_tuples_returned(c.oid) AS entries_read,
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
CROSS JOIN LATERAL (SELECT pg_stat_get_live_tuples(t.oid) AS live, pg_stat_get_dead_tuples(t.oid) AS dead) s
WHERE c.relpersistence <> 't'
"""

BEFORE = import_module("pgembedding_django.migrations.0002_index_status").INDEX_STATUS


class Migration(migrations.Migration):

    dependencies = [
        ("pgembedding_django", "0002_index_status"),
    ]

    operations = [
        migrations.AddField("hnswindexstatus", "label", models.TextField(primary_key=True, serialize=False)),
        migrations.AlterField("hnswindexstatus", "oid", models.BigIntegerField()),
        ReplaceView("pgembedding_hnsw_index", INDEX_STATUS, BEFORE),
        migrations.AddField("indexrun", "user", models.TextField(blank=True, db_default="", default="")),
    ]
