/* The hot loop of the load client: wait, read, walk the frame headers, count, answer pings.
 *
 * Why C: docs/decisions/0301. Compiled when the bench starts and a C compiler is there; walker.py does the same in Python.
 * Python opens the sockets, makes the handshakes and owns every number that is shared here; this file owns only the
 * beginnings of frames that a read cut off. Nothing is allocated per frame.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define BUFFER (1 << 18)
#define EVENTS 1024
#define BUCKET_NS 10000
#define CONTROL UINT32_MAX /* the epoll entry of the caller's own descriptor */

struct totals { uint64_t frames, others, closes, pings, broken, gone, reads, bytes; };
struct rest { unsigned char *bytes; uint32_t size, room; };

struct pump {
    struct totals totals;
    uint32_t *buckets, bucket_count;
    uint64_t *per_connection;
    uint32_t connections;
    struct rest *rests;
    unsigned char buffer[BUFFER];
};

struct pump *pump_new(uint32_t connections, uint32_t *buckets, uint32_t bucket_count, uint64_t *per_connection) {
    struct pump *p = calloc(1, sizeof *p);
    if (!p) return 0;
    p->buckets = buckets, p->bucket_count = bucket_count;
    p->per_connection = per_connection, p->connections = connections;
    p->rests = calloc(connections ? connections : 1, sizeof *p->rests);
    return p;
}

void pump_free(struct pump *p) {
    for (uint32_t i = 0; i < p->connections; i++) free(p->rests[i].bytes);
    free(p->rests);
    free(p);
}

const struct totals *pump_totals(const struct pump *p) { return &p->totals; }

static void pong(int fd, const unsigned char *payload, size_t size) {
    unsigned char frame[6 + 125] = {0x8a, (unsigned char)(0x80 | size)}; /* mask of zeros: the payload as it is */
    memcpy(frame + 6, payload, size);
    send(fd, frame, 6 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Takes all whole frames in bytes[0..end); returns what was taken, or -1 for a stream that no server may send. */
int64_t pump_walk(struct pump *p, uint32_t index, int fd, const unsigned char *bytes, size_t end, int64_t now_ns) {
    size_t at = 0;
    while (end - at >= 2) {
        const unsigned char *head = bytes + at;
        uint64_t size = head[1];
        size_t header = 2;
        if (size & 0x80) return -1;
        if (size >= 126) {
            size_t wide = size == 126 ? 2 : 8;
            if (end - at < 2 + wide) break;
            size = 0;
            for (size_t i = 0; i < wide; i++) size = size << 8 | head[2 + i];
            header += wide;
        }
        if (size > end - at - header) break;
        const unsigned char *body = head + header;
        int kind = head[0] & 0x0f;
        if (kind & 0x08) {
            if (kind == 9 && size <= 125) {
                p->totals.pings++;
                if (fd >= 0) pong(fd, body, size);
            } else if (kind == 8)
                p->totals.closes++;
        } else if (head[0] & 0x70) {
            return -1;
        } else {
            const unsigned char *mark = memmem(body, size, "\"ts\":", 5);
            if (!mark) {
                p->totals.others++;
            } else {
                int64_t stamp = 0;
                mark += 5;
                while (mark < body + size && *mark == ' ') mark++; /* json.dumps, as in the baseline, writes one */
                for (; mark < body + size && *mark >= '0' && *mark <= '9'; mark++)
                    stamp = stamp * 10 + (*mark - '0');
                int64_t late = (now_ns - stamp) / BUCKET_NS;
                if (late < 0) late = 0;
                if (late >= p->bucket_count) late = p->bucket_count - 1;
                p->buckets[late]++;
                p->totals.frames++;
                p->per_connection[index]++;
            }
        }
        at += header + size;
    }
    return (int64_t)at;
}

/* Keeps the beginning of a frame for the next read; -1 without memory. */
int pump_keep(struct pump *p, uint32_t index, const unsigned char *bytes, size_t size) {
    struct rest *rest = &p->rests[index];
    if (size > rest->room) {
        unsigned char *grown = realloc(rest->bytes, size);
        if (!grown) return -1;
        rest->bytes = grown, rest->room = (uint32_t)size;
    }
    memcpy(rest->bytes, bytes, size);
    rest->size = (uint32_t)size;
    return 0;
}

static void lose(struct pump *p, int epoll, int fd) {
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, 0);
    p->totals.gone++;
}

/* One wait and one read of each readable socket. An entry's data is index << 32 | descriptor.
 * Returns 1 when the caller's own descriptor is readable, 0 otherwise, -1 when the wait failed. */
int pump_once(struct pump *p, int epoll, int timeout_ms) {
    struct epoll_event events[EVENTS];
    int control = 0, ready = epoll_wait(epoll, events, EVENTS, timeout_ms);
    if (ready < 0) return errno == EINTR ? 0 : -1;
    for (int i = 0; i < ready; i++) {
        uint32_t index = (uint32_t)(events[i].data.u64 >> 32);
        int fd = (int)(uint32_t)events[i].data.u64;
        if (index == CONTROL) {
            control = 1;
            continue;
        }
        struct rest *rest = &p->rests[index];
        size_t have = rest->size;
        if (have >= BUFFER) { /* a frame larger than any of ours */
            p->totals.broken++;
            lose(p, epoll, fd);
            continue;
        }
        if (have) memcpy(p->buffer, rest->bytes, have);
        ssize_t got = recv(fd, p->buffer + have, BUFFER - have, MSG_DONTWAIT);
        if (got <= 0) {
            if (got == 0 || (errno != EAGAIN && errno != EINTR)) lose(p, epoll, fd);
            continue;
        }
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t); /* per read: late in a long list of events is late */
        p->totals.reads++;
        p->totals.bytes += (uint64_t)got;
        size_t end = have + (size_t)got;
        int64_t taken = pump_walk(p, index, fd, p->buffer, end, (int64_t)t.tv_sec * 1000000000 + t.tv_nsec);
        rest->size = 0;
        if (taken < 0 || ((size_t)taken < end && pump_keep(p, index, p->buffer + taken, end - (size_t)taken))) {
            p->totals.broken++;
            lose(p, epoll, fd);
        }
    }
    return control;
}
