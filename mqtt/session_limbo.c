/* A list, and a look at each. What makes it hard: a link may speak at any moment, and must not be freed while it does.
 */
#include "mqtt/session_limbo.h"

#include <assert.h>

static struct link *kept;
static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t mutex;

static void init(void)
{
    int error = uv_mutex_init(&mutex);
    assert(error == 0);
}

void limbo_keep(struct link *link)
{
    uv_once(&once, init);
    uv_mutex_lock(&mutex);
    link->next_kept = kept;
    kept = link;
    uv_mutex_unlock(&mutex);
}

size_t limbo_sweep(void)
{
    struct link *spoken = NULL;
    size_t left = 0;
    uv_once(&once, init);
    uv_mutex_lock(&mutex);
    for (struct link **at = &kept; *at != NULL;) {
        struct link *link = *at;
        if (link_has_reported(link)) {
            *at = link->next_kept;
            link->next_kept = spoken;
            spoken = link;
        } else {
            at = &link->next_kept;
            left++;
        }
    }
    uv_mutex_unlock(&mutex);
    while (spoken != NULL) {
        struct link *link = spoken;
        spoken = link->next_kept;
        link_close(link, false);
    }
    return left;
}
