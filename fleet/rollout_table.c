/* Where the members of a rollout lie, and how they are let go.
 *
 * What makes it hard is number: of 200,000 each must be found at once, and nobody may wait while they go. So they lie
 * in blocks, with an index; an end keeps the few that are listed, puts the rest aside, and a piece of it is freed at
 * each tick.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_BLOCKS 32 /* at a time: 8,192 members */
#define SWEEP_SITES  8192

struct member *member_at(const struct rollout_table *table, size_t i)
{
    return &table->blocks[i / MEMBER_BLOCK][i % MEMBER_BLOCK];
}

static const struct mac *mac_at(const void *owner, uint32_t place)
{
    return &member_at(owner, place)->mac;
}

struct member *member_find(const struct rollout *rollout, const struct mac *mac)
{
    uint32_t place = mac_index_find(&rollout->table->index, mac, mac_at, rollout->table);
    return place != MAC_INDEX_NONE ? member_at(rollout->table, place) : NULL;
}

static size_t count_blocks(size_t members)
{
    return (members + MEMBER_BLOCK - 1) / MEMBER_BLOCK;
}

struct member *member_lay(struct rollout *rollout, const struct mac *mac)
{
    struct rollout_table *table = rollout->table;
    size_t blocks = count_blocks(table->member_count);
    if (table->member_count % MEMBER_BLOCK == 0) {
        if ((blocks & (blocks - 1)) == 0) { /* full at each power of two */
            table->blocks = realloc(table->blocks, (blocks > 0 ? 2 * blocks : 1) * sizeof(struct member *));
            assert(table->blocks != NULL);
        }
        table->blocks[blocks] = calloc(MEMBER_BLOCK, sizeof *table->blocks[blocks]);
        assert(table->blocks[blocks] != NULL);
    }
    mac_index_add(&table->index, mac, (uint32_t)table->member_count);
    struct member *member = member_at(table, table->member_count++);
    member->mac = *mac;
    return member;
}

/* --- sites ----------------------------------------------------------------------------------------------------------
 */

bool member_site_is_full(const struct rollout *rollout, const struct site *site)
{
    return rollout->order.site_in_flight > 0 && site->taken >= rollout->order.site_in_flight;
}

/* Who has a network of IPv6 chooses among many sites, so they have a secret hash, too. */
static struct site *find_site(const struct rollout_table *table, uint64_t key, unsigned *hash)
{
    struct site *site;
    *hash = seeded_hash(&table->rollouts->seed, key >> 32, (uint32_t)key);
    HASH_FIND_BYHASHVALUE(hh, table->sites, &key, sizeof key, *hash, site);
    return site;
}

const struct site *member_site(const struct rollout *rollout, uint64_t key)
{
    unsigned hash;
    return find_site(rollout->table, key, &hash);
}

struct site *site_take(struct rollout *rollout, uint64_t key)
{
    struct rollout_table *table = rollout->table;
    unsigned hash;
    struct site *site = find_site(table, key, &hash);
    if (site == NULL) {
        site = calloc(1, sizeof *site);
        assert(site != NULL);
        site->key = key;
        HASH_ADD_BYHASHVALUE(hh, table->sites, key, sizeof site->key, hash, site);
    }
    return site;
}

void site_place(struct rollout *rollout, struct site *site)
{
    struct rollout_table *table = rollout->table;
    bool full = member_site_is_full(rollout, site);
    for (size_t i = 0; i < SITE_KINDS; i++) {
        struct site_queue *queue = &site->queues[i];
        bool belongs = queue->members.head != NULL && !full;
        if (belongs && !queue->in_ring) {
            CDL_APPEND(table->rings[i], queue);
        } else if (!belongs && queue->in_ring) {
            CDL_DELETE(table->rings[i], queue);
        }
        queue->in_ring = belongs;
    }
}

struct member *sites_next(struct rollout *rollout, enum site_kind kind)
{
    struct site_queue **ring = &rollout->table->rings[kind];
    struct member *member = *ring != NULL ? (*ring)->members.head : NULL;
    *ring = *ring != NULL ? (*ring)->next : NULL; /* the next site's turn */
    return member;
}

struct member *sites_next_plain(struct rollout *rollout)
{
    struct member *member = sites_next(rollout, SITE_FRESH);
    return member != NULL ? member : sites_next(rollout, SITE_STALE);
}

/* --- letting go -----------------------------------------------------------------------------------------------------
 */

static void put_aside(struct rollout_table *table)
{
    struct waste *waste = calloc(1, sizeof *waste);
    assert(waste != NULL);
    *waste = (struct waste){ .blocks = table->blocks,
                             .block_count = count_blocks(table->member_count),
                             .sites = table->sites,
                             .next = table->rollouts->waste };
    table->rollouts->waste = waste;
    table->rollouts->waste_blocks += waste->block_count;
    HASH_CLEAR(hh, table->sites); /* the table; the sites stay linked */
    mac_index_clear(&table->index);
    table->blocks = NULL;
    table->member_count = 0;
    memset(table->rings, 0, sizeof table->rings);
    table->armed = table->resting = table->telling = (struct member_list){ NULL, 0 };
    memset(table->of_state, 0, sizeof table->of_state);
    table->moves++;
}

void members_thin(struct rollout *rollout)
{
    static const enum rollout_device_state listed[] = { ROLLOUT_DEVICE_FAILED, ROLLOUT_DEVICE_SILENT,
                                                        ROLLOUT_DEVICE_SKIPPED };
    struct rollout_table *table = rollout->table;
    struct member *kept = calloc(ROLLOUT_LISTED_MAX, sizeof *kept);
    size_t count = 0;
    assert(kept != NULL);
    for (size_t i = 0; i < sizeof listed / sizeof listed[0]; i++) {
        const struct member *member = table->of_state[listed[i]].head;
        for (; member != NULL && count < ROLLOUT_LISTED_MAX; member = member->next) {
            kept[count++] = *member;
        }
    }
    put_aside(table);
    for (size_t i = 0; i < count; i++) {
        struct member *member = member_lay(rollout, &kept[i].mac);
        *member = kept[i];
        member->site = NULL;
        member->list = NULL;
        member->prev = member->next = NULL;
    }
    free(kept);
}

bool waste_sweep(struct rollouts *rollouts)
{
    size_t blocks = SWEEP_BLOCKS, sites = SWEEP_SITES;
    struct waste *waste;
    while ((waste = rollouts->waste) != NULL && blocks > 0 && sites > 0) {
        for (; blocks > 0 && waste->block_count > 0; blocks--) {
            free(waste->blocks[--waste->block_count]);
            rollouts->waste_blocks--;
        }
        for (; sites > 0 && waste->sites != NULL; sites--) {
            struct site *site = waste->sites;
            waste->sites = site->hh.next;
            free(site);
        }
        if (waste->block_count == 0 && waste->sites == NULL) {
            rollouts->waste = waste->next;
            free(waste->blocks);
            free(waste);
            blocks -= blocks > 0; /* one that had no members is work, too */
        }
    }
    return rollouts->waste != NULL;
}

void members_free(struct rollout *rollout)
{
    put_aside(rollout->table);
    free(rollout->table->whys);
}
