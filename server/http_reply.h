/* An answer, and the bytes of its head. Header names are spelled as devices compare them (esp-link and the native SDK
 * search them case-sensitively), the head fits one small segment, and a body is always announced by Content-Length. */
#ifndef SERVER_HTTP_REPLY_H
#define SERVER_HTTP_REPLY_H

#include "proto/reason.h"
#include "repo/catalog.h"
#include "server/http_request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_later; /* an answer that comes later, see server/http_conn.h */
struct delivery;   /* what device_api wants to know again when an image has been sent */

struct http_answer {
    unsigned status;
    bool has_reason;
    bool close;                /* close the connection whatever the request wished */
    enum reason reason;        /* X-Updraft-Reason */
    struct image *image;       /* whose bytes are the body; borrowed, counted by who keeps it; NULL = text */
    uint64_t first, length;    /* the part of the image that is the body */
    struct delivery *delivery; /* the connection hands it back, exactly once, where it is not NULL */
    struct http_later *later;  /* the answer comes later; nothing else of this one counts */
    bool again;                /* and it comes when the request is handled once more: http_later_again */
    char *body;                /* of a longer text: malloc'd, body_bytes of it; who sends the answer frees it */
    size_t body_bytes;
    const char *content_type;           /* of a text; NULL = text/plain */
    const char *challenge;              /* WWW-Authenticate of a 401 */
    const char *allow;                  /* of a 405 */
    unsigned retry_after_s;             /* of a 503 */
    char version[VERSION_TEXT_MAX + 1]; /* x-version; "" = none */
    char location[80];                  /* Location of a 201 or 202; "" = none */
    size_t text_bytes;
    char text[512]; /* the body where there is no image; last, see struct transfer */
};

#define HTTP_REPLY_HEAD_MAX 1024

/* A status that is no answer but says: send the body, then I shall answer. */
#define HTTP_SEND_BODY 100

/* An answer with one short line of text, printf-like. */
void http_answer_text(struct http_answer *answer, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An answer whose body is the image: applies If-None-Match, Range and If-Range; `status` 200 becomes 304, 206 or 416.
 */
void http_answer_image(struct http_answer *answer, struct image *image, const struct http_request *request);

/* Writes the head. Returns its bytes, at most HTTP_REPLY_HEAD_MAX. `date` is what http_clock_date gave. */
size_t http_reply_head(const struct http_answer *answer, bool keep_alive, const char *date, char *to);

/* The Date header's value for a time in seconds since 1970. */
#define HTTP_DATE_SIZE 30
void http_date(int64_t seconds, char text[HTTP_DATE_SIZE]);

/* The same for now, formatted once a second. Zeroed before the first use. */
struct http_clock {
    int64_t second;
    char date[HTTP_DATE_SIZE];
};
const char *http_clock_date(struct http_clock *clock);

#endif
