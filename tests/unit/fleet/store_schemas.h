/* A database of each schema as its version wrote it, with one row of each kind, and what must be found in it.
 *
 * A new migration adds its own version at the end: the script of `sqlite3 updraft.db .dump` behind the tables, and the
 * pragmas. What stands here once released is never changed: it is what lies on people's disks. So it is a copy by
 * nature: made from fleet/store_schema.c, it would change with it, and every migration would be tested from today's. */
#ifndef TESTS_UNIT_FLEET_STORE_SCHEMAS_H
#define TESTS_UNIT_FLEET_STORE_SCHEMAS_H

#include "tests/unit/fleet/store_fixture.h"

static inline void check_empty(const struct loaded *loaded)
{
    assert_int_equal(loaded->count, 0);
}

static inline void check_1(const struct loaded *loaded)
{
    assert_int_equal(loaded->count, 5);
    const struct store_policy *policy = &loaded->rows[0]->row.policy;
    const struct store_device *device = &loaded->rows[1]->row.device;
    const struct store_seen *seen = &loaded->rows[2]->row.seen;
    const struct rollout *rollout = &loaded->rows[3]->row.rollout.rollout;
    const struct store_member *member = &loaded->rows[4]->row.member;
    assert_int_equal(mac_number(&policy->mac), 0x5ccf7f000001);
    assert_true(policy->blocked && !policy->approved && policy->group_count == 2);
    assert_string_equal(policy->pin, "0_4_9");
    assert_string_equal(policy->groups[1], "attic");
    assert_int_equal(policy->unix_s, 1700000009);
    assert_int_equal(mac_number(&device->mac), 0x5ccf7f000001);
    assert_int_equal(device->reason, REASON_UP_TO_DATE);
    assert_int_equal(device->transfer.outcome, OUTCOME_CONFIRMED);
    assert_int_equal(device->transfer.unix_s, 1700000003);
    assert_int_equal(device->fs_transfer.outcome, OUTCOME_OPEN);
    assert_int_equal(device->fs_transfer.served, 2);
    assert_string_equal(device->fs_transfer.version, "0_2");
    assert_true(device->has_md5 && device->came_back && device->md5[15] == 0x0f);
    assert_int_equal(device->sketch_bytes, 400000);
    assert_string_equal(device->sdk, "2.2.2-dev(38a443e)");
    assert_int_equal(device->never_again.count, 1);
    assert_int_equal(device->never_again.images[0].failures, 2);
    assert_int_equal(device->never_again.images[0].unix_s, 0x01020304);
    assert_int_equal(seen->count, 2);
    assert_int_equal(mac_number(&seen->devices[1].mac), 0x5ccf7f000002);
    assert_int_equal(seen->devices[1].unix_s, 0x6553f10b);
    assert_string_equal(rollout->id, "00000000000000aa");
    assert_int_equal(rollout->state, ROLLOUT_RUNNING);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_QUEUED], 12);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_FAILED], 3);
    assert_int_equal(rollout->since_s, 1700000007);
    assert_int_equal(rollout->reboot_ms, 48);
    assert_int_equal(rollout->skipped_for.all[0].count, 4);
    assert_string_equal(rollout->skipped_for.all[1].word, "runs it already");
    assert_true(rollout->word_only && rollout->strangers);
    assert_int_equal(rollout->cause, ROLLOUT_CAUSE_IMAGE_LOST);
    assert_string_equal(rollout->superseded_by, "00000000000000ab");
    assert_string_equal(member->rollout, "00000000000000aa");
    assert_int_equal(member->state, ROLLOUT_DEVICE_FAILED);
    assert_string_equal(member->why, "cut at 40 %");
    assert_int_equal(member->mark, ROLLOUT_MARK_UNTOLD);
}

static const struct {
    const char *sql;
    void (*check)(const struct loaded *loaded);
} store_schemas[] = {
    { "", check_empty },
    { "CREATE TABLE device (mac INTEGER PRIMARY KEY, client TEXT, chip INTEGER, flash_mode INTEGER, reason"
      " TEXT, md5 BLOB, reason_fs INTEGER, came_back INTEGER, via_proxy INTEGER, address BLOB, first_seen"
      " INTEGER, seen INTEGER, flash_bytes INTEGER, free_bytes INTEGER, sketch_bytes INTEGER, type TEXT, version"
      " TEXT, fs_version TEXT, sdk TEXT, sent_at INTEGER, sent_md5 BLOB, sent_before BLOB, sent_bytes INTEGER,"
      " sent_of INTEGER, sent_ms INTEGER, sent_version TEXT, outcome TEXT, failures INTEGER, served INTEGER,"
      " fs_sent_at INTEGER, fs_sent_md5 BLOB, fs_sent_before BLOB, fs_sent_bytes INTEGER, fs_sent_of INTEGER,"
      " fs_sent_ms INTEGER, fs_sent_version TEXT, fs_outcome TEXT, fs_failures INTEGER, fs_served INTEGER,"
      " never_again BLOB);"
      "CREATE TABLE seen (block INTEGER PRIMARY KEY, devices BLOB);"
      "CREATE TABLE policy (mac INTEGER PRIMARY KEY, blocked INTEGER, approved INTEGER, type TEXT, label TEXT, pin "
      "TEXT,"
      " groups TEXT, note TEXT, at INTEGER);"
      "CREATE TABLE rollout (place INTEGER PRIMARY KEY, id TEXT UNIQUE, state TEXT, before TEXT, why TEXT,"
      " supersedes TEXT, file TEXT, type TEXT, version TEXT, fs INTEGER, bytes INTEGER, md5 BLOB, run_md5 BLOB,"
      " passed_over TEXT, named INTEGER, devices BLOB, grp TEXT, percent INTEGER, canary INTEGER, in_flight INTEGER,"
      " max_failures INTEGER, site_in_flight INTEGER, window_s INTEGER, timeout_ms INTEGER, reboot_ms INTEGER,"
      " broker_ms INTEGER, created INTEGER, ended INTEGER, since INTEGER, distrusted INTEGER, gathered INTEGER, "
      "told_type INTEGER,"
      " broadcasts INTEGER, window_size INTEGER, window_stalled INTEGER, members INTEGER, counts TEXT,"
      " canaries INTEGER, canaries_confirmed INTEGER, failures INTEGER, forgiven INTEGER, lost INTEGER,"
      " lost_forgiven INTEGER, anonymous INTEGER, commands INTEGER, acknowledged INTEGER, commands_failed INTEGER,"
      " sent_bytes INTEGER, took_ms INTEGER, rebooted_ms INTEGER, word_only INTEGER, strangers INTEGER,"
      " skipped_for TEXT, cause TEXT, superseded_by TEXT);"
      "CREATE TABLE member (rollout TEXT, mac INTEGER, state TEXT, attempts INTEGER, canary INTEGER, armed INTEGER,"
      " at INTEGER, why TEXT, mark TEXT, PRIMARY KEY (rollout, mac)) WITHOUT ROWID;"
      "CREATE INDEX member_listed ON member (rollout) WHERE state IN ('failed', 'silent', 'skipped');"
      "CREATE TABLE dropped (rollout TEXT PRIMARY KEY) WITHOUT ROWID;"
      "CREATE TABLE event (id INTEGER PRIMARY KEY, mac INTEGER, at INTEGER, word TEXT, text TEXT);"
      "CREATE INDEX event_of_device ON event (mac, id);"
      "PRAGMA application_id = 1433429106; PRAGMA user_version = 1;"
      "INSERT INTO policy VALUES (102046258692097,1,0,'d1_mini','','0_4_9','cellar' || char(10) || 'attic','wet',"
      "1700000009);"
      "INSERT INTO device VALUES (102046258692097,'esp8266',4,2,'up-to-date',x'000102030405060708090a0b0c0d0e0f',0,1,0,"
      "x'00000000000000000000ffff0a000001',1700000001,1700000002,4194304,3000000,400000,'d1_mini','0_4_9','',"
      "'2.2.2-dev(38a443e)',1700000003,x'101112131415161718191a1b1c1d1e1f',x'0001020304050607',524288,524288,4000,"
      "'0_4_9','confirmed',0,0,1700000004,x'404142434445464748494a4b4c4d4e4f',x'0001020304050607',65536,65536,900,"
      "'0_2','open',1,2,x'202122232425262728292a2b2c2d2e2f020001020304');"
      "INSERT INTO seen VALUES (7,x'5ccf7f0000016553f10a5ccf7f0000026553f10b');"
      "INSERT INTO rollout VALUES (1,'00000000000000aa','running','canary','','','d1_mini/0_4_9.bin','d1_mini','0_4_9',"
      "0,524288,x'303132333435363738393a3b3c3d3e3f',x'101112131415161718191a1b1c1d1e1f','',0,x'','cellar',100,2,0,10,5,"
      "0,60000,30000,20000,1700000004,0,1700000007,0,1,0,0,32,0,15,'queued 12 failed "
      "3',2,2,3,0,0,0,0,15,15,0,1572864,12000,48,1,1,'4 pinned\n2 runs it already\n','image-lost','00000000000000ab');"
      "INSERT INTO member VALUES ('00000000000000aa',102046258692097,'failed',3,0,0,1700000005,'cut at 40 %','untold');"
      "INSERT INTO event (mac, at, word, text) VALUES (102046258692097,1700000006,'cut','0_4_9, at 40 %');",
      check_1 },
};

#endif
