"""What the users of the store may not: commands, `{key}` and `{keys}` being those of a pool."""

from __future__ import annotations

FORBIDDEN = (
    *("FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "SHUTDOWN", "SAVE", "BGREWRITEAOF"),
    *("REPLICAOF 127.0.0.1 1", "CONFIG REWRITE", "ACL SETUSER x", "ACL LIST", "ACL WHOAMI", "CLIENT LIST"),
    *("CLIENT KILL ID 1", "SCRIPT FLUSH", "EVAL return 0", "FUNCTION FLUSH", "FUNCTION DELETE quota"),
    *("MODULE LIST", "SLOWLOG GET", "LATENCY RESET", "SWAPDB 0 1", "SELECT 1", "RANDOMKEY", "DBSIZE"),
    *("SET x y", "GET x", "HSET other f v", "HSET quota:{NB-SH}x f v", "HSET quota:{XX-SH}:pool f v"),
    *("DEL {key}", "HDEL {key} seq", "MIGRATE 127.0.0.1 1 {key} 0 1", "RESTORE {key} 0 x", "DUMP {key}"),
    *(
        "XDEL {journal} 1-0",
        "XTRIM {journal} MAXLEN 0",
        "PUBLISH x y",
        "COPY {key} x",
        "SORT {key}",
    ),
)
"""What nobody may, whoever he is."""

OTHERS = {
    "quotad": (
        *("FCALL quota_operate 6 {keys} x", "FCALL quota_reserve 6 {keys} x", "CONFIG GET dir"),
        "FCALL quota_accept 2 {key} quota:{NB-SH}:sources x",
    ),
    "gateway": (
        *("FCALL quota_operate 6 {keys} x", "FCALL quota_open 6 {keys} x", "FCALL quota_apply 6 {keys} x"),
        *("FCALL quota_replay 6 {keys} x", "FCALL quota_adopt 6 {keys} x", "PERSIST {key}"),
        *("FUNCTION LOAD x", "FUNCTION LIST", "UNLINK {key}", "RENAME {key} {key}", "EXPIRE {key} 1"),
        *(
            "HGETALL {key}",
            "XRANGE {journal} - +",
            "CONFIG GET dir",
            "HSET quota:{NB-SH}:verified differences 0",
        ),
        *("HGET quota:{NB-SH}:orders:2026-11-20 x", "HLEN quota:{NB-SH}:orders"),
        *("FCALL quota_arrived 2 {key} quota:{NB-SH}:sources x", "HGET quota:{NB-SH}:sources x"),
    ),
    "monitor": (
        *("FCALL quota_tick 6 {keys}", "FCALL quota_reserve 6 {keys} x", "FUNCTION LOAD x", "HSET {key} f v"),
        *("FCALL quota_replay 6 {keys} x", "FCALL quota_adopt 6 {keys} x"),
        *("XADD {journal} * f v", "UNLINK {key}", "EXPIRE {key} 1", "CONFIG GET dir", "ZADD {key} 1 x"),
    ),
    "operator": (
        *("FUNCTION LOAD x", "UNLINK {key}", "RENAME {key} {key}", "FCALL quota_open 6 {keys} x"),
        *("FCALL quota_replay 6 {keys} x", "FCALL quota_adopt 6 {keys} x"),
        *("FCALL quota_reserve 6 {keys} x", "FCALL quota_apply 6 {keys} x", "CONFIG GET dir"),
        "FCALL quota_arrived 2 {key} quota:{NB-SH}:sources x",
        *("EXPIRE {key} 0", "EXPIRE {journal} 0", "EXPIRE quota:{NB-SH}:orders 0", "HSET {journal} f v"),
        *("HSET quota:{NB-SH}:holds f v", "HSET quota:{NB-SH}:pool:2026-11-20 f v", "XADD {key} * f v"),
        *("ZADD quota:{NB-SH}:holds 1 x", "XADD quota:{NB-SH}:journal:2026-11-20 * f v"),
        "FCALL quota_operate 6 {key} {key} {key} {key} {key} quota:{NB-SH}:verified x",
    ),
    "keeper": ("HGETALL {key}", "HSET {key} f v", "FCALL_RO quota_check 1 {key} buy", "FUNCTION LIST"),
}
"""What one of them may not, beside that."""
