/* One update check, asked and decided: what did the device say (proto/device_request), what is it to run (fleet, which
 * knows policy and rollouts), what have we (repo/catalog), may it have it now (fleet), so what (proto/decision)?
 *
 * Nothing here changes anything or tells anyone: server/device_api answers with it, `updraft explain` only looks.
 */
#ifndef SERVER_CHECK_H
#define SERVER_CHECK_H

#include "fleet/fleet.h"
#include "proto/decision.h"
#include "proto/device_request.h"
#include "repo/catalog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* What is asked; the server's own. */
struct check_sources {
    const uv_loop_t *loop;         /* for the time */
    const struct catalog *catalog; /* never NULL once requests come */
    const struct fleet *fleet;
    bool fs_gzip; /* compressed file systems are inflated by the sketches in use */
};

struct check {
    const struct check_sources *sources;
    struct device_request device; /* as device_request_read left it */
    struct slice type;            /* "" where none is known */
    struct direction direction;
    struct permission permission;
    bool by_name;        /* it asked for the file, not for what it is to have */
    bool ignores_record; /* and gets it, whatever the device proved with it */
    uint8_t address[16]; /* of the device: IPv6, or IPv4 mapped; zeros = not known */
    bool via_proxy;
    struct decision_input input;
    struct decision decision;
    struct image *running;  /* by digest; NULL = not known */
    unsigned slot;          /* of the native SDK that it asks for: 1 or 2; 0 = it is no such device */
    struct image *slots[2]; /* the offer, where it is of slots */
};

void check_init(struct check *check, const struct check_sources *sources);

/* The whole way for an updater, whose headers are in check->device: `by_type`: it asked for check->type, else for
 * whatever it is assigned. `wanted`: for exactly this version or label, where no assignment says otherwise; NULL = the
 * newest. */
void check_update(struct check *check, bool by_type, const char *wanted);

/* Before it, of a device of the native SDK that asks for check->slot: its version judges, and says whether it wants
 * what there is; who says none has compared. */
void check_native(struct check *check);

/* Its pieces, for addresses that ask for less: the offer set by hand, or the type's. */
void check_find_offer(struct check *check, const char *wanted);
void check_find_running(struct check *check);
void check_direct(struct check *check, const char *wanted); /* policy and rollouts, for check->type as it was asked */
void check_permit(struct check *check);
void check_decide(struct check *check);

/* The digest that names a build in records: slots of one version are one build. */
const uint8_t *check_run_md5(const struct check *check, const struct build *build);
struct loop_guard_key check_guard_key(const struct check *check);
/* So many whole transfers of one image; one where the device can never say that it has it. */
unsigned check_served_max(const struct check *check);

/* "0_4_10", or the label. */
const char *build_name(const struct build *build);

/* One sentence for people: what was decided, of what, and why. */
void check_explain(const struct check *check, char *text, size_t size);

#endif
