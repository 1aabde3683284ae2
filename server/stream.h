/* A connection's bytes, whatever carries them: one table of functions, so that the HTTP code does not know whether it
 * speaks over TCP or TLS. "Send these bytes of this image" is one call: sendfile is one way to do it, encryption
 * another.
 */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include "base/status.h"
#include "repo/blob.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct stream;

enum stream_sent {
    STREAM_SENT,    /* all is handed to the system */
    STREAM_PENDING, /* on_sent will say */
    STREAM_BROKEN,  /* the peer is gone: close */
};

/* A name in a certificate; not terminated, and whatever bytes its owner had signed. */
typedef void (*stream_name_fn)(void *owner, const char *name, size_t n);

struct stream_ops {
    /* Begins to call on_read and on_end, the first time perhaps before it returns; the owner may close from within.
     * Input is never paused by the stream itself. */
    bool (*read_start)(struct stream *stream);
    void (*read_stop)(struct stream *stream);

    /* Sends `head` (copied where it must wait), then `length` bytes of `body` from `first` (NULL = none; the blob is
     * held by the caller until it is done). One send at a time. `last`: nothing will follow on this connection. */
    enum stream_sent (*send)(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                             uint64_t first, uint64_t length, bool last);

    /* Many are sending: of what is sent next the system shall hold little, until the peer proves to be quick. */
    void (*hold_little)(struct stream *stream);

    /* Says to the peer that nothing follows; reading goes on. */
    void (*shutdown)(struct stream *stream);

    /* Bytes of all that was sent which the peer's system has not acknowledged yet. */
    uint64_t (*unacknowledged)(struct stream *stream);

    /* Whether the connection is dead: after the peer's end the loop no longer hears of a reset. */
    bool (*is_dead)(struct stream *stream);

    /* "192.0.2.7:49152", "unix uid=1000" */
    void (*peer)(struct stream *stream, char *text, size_t size);

    /* Which user's process opened the other end. Returns false where that is not known: over a network. */
    bool (*credentials)(struct stream *stream, uid_t *uid, gid_t *gid);

    /* The other end's address, borrowed; of no network's family where it is a Unix socket. */
    const struct sockaddr *(*remote)(const struct stream *stream);

    /* Our end's address. Returns false where there is none any more. */
    bool (*local)(struct stream *stream, struct sockaddr_storage *address);

    /* Tells the names in the certificate that the peer showed, and that was found good: its CNs, then DNS names and
     * URIs of its SAN. Returns false where it showed none. */
    bool (*certificate)(struct stream *stream, stream_name_fn on_name, void *owner);

    /* Whether whom the peer showed to be may no longer be served: it is answered once more, and then has to come anew.
     */
    bool (*must_come_anew)(struct stream *stream);

    /* When it is closed the system shall drop what the peer has not taken, and reset it. Else it would go on offering
     * that for minutes, hundreds of KiB each, to whoever answers and takes nothing. */
    void (*discard)(struct stream *stream);

    /* Ends it; on_closed follows, perhaps before it returns. No other callback does. */
    void (*close)(struct stream *stream);
};

struct stream {
    const struct stream_ops *ops;
    /* Set by the owner before read_start: */
    void (*on_read)(struct stream *stream, const char *bytes, size_t n); /* borrowed until it returns */
    void (*on_end)(struct stream *stream, bool broken);  /* broken: reset or failed; else the peer sends no more */
    void (*on_sent)(struct stream *stream, bool broken); /* after STREAM_PENDING */
    void (*on_closed)(struct stream *stream);
    uint64_t sent_bytes; /* handed to the system so far, heads included */
    bool over_tls;
};

#endif
