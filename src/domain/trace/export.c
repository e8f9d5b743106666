// What a trace has caught, in words, as JSON, as a capture file.
#include <stdlib.h>

#include "base/clock.h"
#include "core/when.h"
#include "domain/trace/sql/trace.sql.h"
#include "domain/trace/trace_priv.h"
#include "proto/mqtt_text.h"
#include "proto/pcapng.h"

#define LINE_MAX_BYTES 8192

struct record {
    int64_t seq, ts_us;
    uint64_t conn;
    enum trace_what what;
    enum mqtt_version version;
    struct slice peer, note, data; // valid until the statement's next step
    size_t data_len;
};

static void read_record(struct stmt *s, struct record *r)
{
    *r = (struct record){.seq = col_i64(s, 0),
                         .ts_us = col_i64(s, 1),
                         .conn = (uint64_t)col_i64(s, 2),
                         .what = (enum trace_what)col_i64(s, 3),
                         .version = (enum mqtt_version)col_i64(s, 4),
                         .peer = col_text(s, 5),
                         .note = col_text(s, 6),
                         .data = col_blob(s, 7),
                         .data_len = (size_t)col_i64(s, 8)};
}

static struct stmt *records_of(struct tx *tx, uint64_t trace, int64_t after, int64_t limit)
{
    struct stmt *s = db_stmt(tx->db, &sql_trace[SQL_TRACE_RECORD_AFTER]);
    stmt_bind_i64(s, 1, (int64_t)trace);
    stmt_bind_i64(s, 2, after);
    stmt_bind_i64(s, 3, limit);
    return s;
}

static const char *what_text(enum trace_what w)
{
    static const char *const text[] = {[TRACE_IN] = "in", [TRACE_OUT] = "out", [TRACE_NOTE] = "note"};
    return (unsigned)w <= TRACE_NOTE ? text[w] : "note";
}

static void raw_bytes(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.len && i < 32; i++) {
        buf_printf(out, " %02x", s.p[i]);
    }
    buf_str(out, s.len > 32 ? " ..." : "");
}

// One line of words for a record, without a newline.
static void describe(struct buf *out, const struct record *r)
{
    struct mqtt_packet p;
    struct mqtt_error bad = {0, ""};
    size_t used = 0;
    if (r->what == TRACE_NOTE) {
        buf_slice(out, r->note);
        return;
    }
    enum mqtt_version v = r->version == 0 ? MQTT_V311 : r->version;
    enum mqtt_result got = mqtt_decode(r->data, v, &mqtt_limits_default, &p, &used, NULL, &bad);
    if (got == MQTT_DONE) {
        (void)mqtt_text(out, v, &p);
        return;
    }
    bool cut = r->data.len < r->data_len;
    buf_str(out, r->data.len > 0 ? mqtt_type_text((enum mqtt_type)(r->data.p[0] >> 4)) : "nothing");
    buf_printf(out, " %zu bytes (%s):", r->data_len, cut ? "cut" : got == MQTT_BAD ? bad.text : "incomplete");
    raw_bytes(out, r->data);
}

static void write_record(const struct record *r, struct jw *out)
{
    char text[LINE_MAX_BYTES];
    char conn[24];
    struct buf line = buf_fixed(text, sizeof(text));
    struct buf id = buf_fixed(conn, sizeof(conn));
    describe(&line, r);
    buf_printf(&id, "%llu", (unsigned long long)r->conn);
    jw_object(out);
    jw_key(out, "seq");
    jw_int(out, r->seq);
    jw_key(out, "ts");
    jw_time_ms(out, r->ts_us);
    jw_key(out, "time");
    jw_time_text(out, r->ts_us);
    jw_key(out, "conn");
    jw_slice(out, buf_view(&id));
    jw_key(out, "peer");
    jw_slice(out, r->peer);
    jw_key(out, "direction");
    jw_str(out, what_text(r->what));
    jw_key(out, "text");
    jw_slice(out, buf_view(&line));
    jw_key(out, "bytes");
    jw_int(out, (int64_t)r->data_len);
    jw_object_end(out);
}

enum status trace_records(struct tx *tx, struct slice id, int64_t after, int64_t limit, struct jw *out, struct err *err)
{
    struct trace_row t;
    enum status st = trace_find(tx, id, &t, err);
    if (st != ST_OK) {
        return st;
    }
    struct stmt *s __attribute__((cleanup(stmt_cleanup_))) = records_of(tx, t.row, after, limit + 1);
    jw_object(out);
    jw_key(out, "state");
    jw_str(out, t.ended_us == 0 ? "running" : "ended");
    jw_key(out, "items");
    jw_array(out);
    bool row = false;
    int64_t n = 0;
    int64_t last = after;
    for (st = stmt_step(s, &row, err); st == ST_OK && row && n < limit; st = stmt_step(s, &row, err), n++) {
        struct record r;
        read_record(s, &r);
        write_record(&r, out);
        last = r.seq;
    }
    jw_array_end(out);
    jw_key(out, "last");
    jw_int(out, last);
    jw_key(out, "more");
    jw_bool(out, row);
    jw_object_end(out);
    return st;
}

// --- whole traces ----------------------------------------------------------------------------------------------------

struct sheet {
    struct buf *out;
    struct pcapng *file;
};

static bool put_line(struct sheet *w, const struct record *r)
{
    char time[CLOCK_RFC3339_MAX];
    clock_rfc3339(r->ts_us, time);
    buf_printf(w->out, "%s  %-4s " SLICE_FMT " #%llu  ", time, what_text(r->what), SLICE_ARG(r->peer),
               (unsigned long long)r->conn);
    describe(w->out, r);
    return buf_u8(w->out, '\n');
}

static bool put_packet(struct sheet *w, const struct record *r)
{
    char peer[72];
    char note[256];
    (void)slice_to_cstr(r->peer, peer, sizeof(peer));
    (void)slice_to_cstr(slice_head(r->note, sizeof(note) - 1), note, sizeof(note));
    struct pcapng_packet p = {.ts_us = r->ts_us,
                              .conn = r->conn,
                              .peer = peer,
                              .to_peer = r->what == TRACE_OUT,
                              .data = r->data,
                              .data_len = r->data_len,
                              .note = note[0] != '\0' ? note : NULL};
    return pcapng_put(w->file, &p);
}

static enum status each(struct tx *tx, uint64_t trace, bool (*put)(struct sheet *w, const struct record *r),
                        struct sheet *w, struct err *err)
{
    struct stmt *s __attribute__((cleanup(stmt_cleanup_))) = records_of(tx, trace, 0, TRACE_RECORDS_MAX + 1);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    for (; st == ST_OK && row; st = stmt_step(s, &row, err)) {
        struct record r;
        read_record(s, &r);
        if (!put(w, &r)) {
            return err_set(err, w->out->starved ? ST_NOMEM : ST_TOO_LARGE, "the trace does not fit into one reply");
        }
    }
    return st;
}

enum status trace_text(struct tx *tx, struct slice id, struct buf *out, struct err *err)
{
    struct trace_row t;
    struct sheet w = {.out = out};
    enum status st = trace_find(tx, id, &t, err);
    if (st != ST_OK) {
        return st;
    }
    buf_printf(out, "# trace of %s %s: %lld records, %lld lost\n", trace_subject_text(t.subject), t.value,
               (long long)t.records, (long long)t.lost);
    return each(tx, t.row, put_line, &w, err);
}

enum status trace_pcapng(struct tx *tx, struct slice id, struct buf *out, struct err *err)
{
    struct trace_row t;
    enum status st = trace_find(tx, id, &t, err);
    struct pcapng *file = st == ST_OK ? calloc(1, sizeof(*file)) : NULL;
    if (st == ST_OK && file == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the capture file");
    }
    if (st == ST_OK) {
        struct sheet w = {.out = out, .file = file};
        (void)pcapng_begin(file, out, "muster");
        st = each(tx, t.row, put_packet, &w, err);
    }
    free(file);
    return st;
}
