/* When devices were last seen, as it is written down: most checks change nothing else, and a row of a device for each
 * would be a page of the database, another one each time. So devices that are neighbours in memory share a block, and a
 * block in which somebody came is written within SEEN_WRITTEN_S, once however many came how often; a block fills a page
 * of the store. Spread over that time, a slice a second.
 *
 * What makes it hard is that a restart may number devices anew: a block would take the place of one that still says
 * more. So the store keeps those that an earlier process wrote beside ours; all of ours are written in the first round,
 * and then it forgets the others.
 */
#ifndef FLEET_SEEN_H
#define FLEET_SEEN_H

#include "fleet/device.h"
#include "fleet/store_queue.h"

#define SEEN_WRITTEN_S 60

struct seen;

/* Of the devices that are there now, all blocks are due. */
struct seen *seen_new(const struct devices *devices, struct store_queue *queue);
void seen_free(struct seen *seen);

void seen_note(struct seen *seen, const struct device *device); /* it came; or is about to be forgotten */
void seen_tick(struct seen *seen);  /* once a second: what is due, as far as there is room */
void seen_write(struct seen *seen); /* at the end: all that is due, likewise */

#endif
