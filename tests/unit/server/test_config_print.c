/* What is shown of the configuration: what is in effect, whence it came, no secret; and that it can be read back. */
#include "base/ini.h"
#include "tests/unit/server/config_fixture.h"

/* What --check-config prints goes into tickets and chats. */
static void test_secrets_are_not_shown(void **state)
{
    (void)state;
    struct reading got;
    assert_reads(&got, "--mqtt mqtts://ann:hunter2@broker --mqtt-user bob --mqtt-password hunter3");
    assert_string_equal(got.config.mqtt, "mqtts://ann:hunter2@broker");
    assert_string_equal(got.config.mqtt_password, "hunter3");
    assert_prints(&got.config, "mqtt = mqtts://broker:8883 ; flag; user and password are not shown\n");
    assert_prints(&got.config, "; mqtt-password is set and not shown ; flag\n");
    assert_prints(&got.config, "mqtt-user = bob ; flag\n");
    assert_prints_not(&got.config, "hunter");
    assert_prints_not(&got.config, "ann");
    config_close(&got.config);
}

static void test_assignments_of_both_files(void **state)
{
    (void)state;
    struct reading got;
    assert_int_equal(mkdir("state", 0700), 0);
    write_file("u.ini", "loop-guard = 4\n[assign]\n5C:CF:7F:B1:E0:42 = door newest\n");
    write_file("state/assignments.ini", "[assign]\n5C:CF:7F:B1:E0:43 = DOOR-7\n");
    assert_reads(&got, "--config u.ini");
    assert_int_equal(assignments_count(got.config.assignments), 2);
    assert_prints(&got.config, "; 2 devices have an assignment, 1 of them in ./state/assignments.ini\n\n[assign]\n"
                               "5ccf7fb1e042 = door newest\n"); /* said twice, the other would be refused */
    assert_prints_not(&got.config, "DOOR-7");
    config_close(&got.config);
    write_file("state/assignments.ini", "[assign]\n5C:CF:7F:B1:E0:42 = DOOR-7\n");
    read_args(&got, "--config u.ini");
    assert_int_equal(got.status, STATUS_BUSY);
    assert_string_equal(got.message, "./state/assignments.ini: line 2: 5C:CF:7F:B1:E0:42: this MAC is assigned "
                                     "already: delete one of the two lines");
    config_close(&got.config);
}

/* Else what --check-config shows would not be what is in effect, or could not be used as a file. */
static void test_printed_is_a_file_that_reads_the_same(void **state)
{
    (void)state;
    struct reading first, second;
    assert_reads(
        &first, "--repo /srv/firm;ware --state st --listen [::]:0 --listen localhost:65535 "
                "--signing-key /a/one.pem --signing-key two.pem --trusted-proxy 10.0.0.0/8 --trusted-proxy fd00::1 "
                "--block-network 192.0.2.7 --allow-network 192.0.2.0/24 "
                "--user ann --sandbox on --sandbox-read /mnt/a --sandbox-read b "
                "--block-mac 5c:cf:7f --block-mac 24:0A:C4:00:00:01 --allow-mac 5CCF --peer-connections 7 "
                "--device-passwords /etc/updraft/device-passwords --tls-listen [::]:8443 --tls-listen 0.0.0.0:0 "
                "--tls-cert ec.pem --tls-cert rsa.pem --tls-key ec.key "
                "--tls-key rsa.key --tls-client-ca ca.pem --tls-client optional --tls-client-mac required "
                "--tls-ciphers ECDHE+AESGCM --tls-record-size 512 --tls-handshakes 1000000 "
                "--drain-timeout 0s --head-timeout 100ms --idle-timeout 90s --transfer-timeout 24h "
                "--connections-max 1000000 --settle-time 1500ms --rescan-interval 1h "
                "--image-memory 33554433 --image-idle 1m --loop-guard 1000 --offer published --unknown-devices refuse "
                "--store none --reboot-timeout 1h --site-in-flight 10 --max-failures 5 --fs-gzip yes --log-level debug "
                "--log-format json --public-url https://updraft.example:8443/path --admin-socket /run/u.sock "
                "--admin-listen 127.0.0.1:0 --mqtt mqtts://[::1]:7 --mqtt-user ann --mqtt-ca /a/ca.pem "
                "--mqtt-cert /a/c.pem --mqtt-key /a/c.key --mqtt-client-id u1 --mqtt-version 3.1.1 "
                "--mqtt-keep-alive 90s --mqtt-in-flight 1 --mqtt-queue 200000 --mqtt-preset tasmota "
                "--command-topic a/{type} --device-command-topic b/{mac} --command-payload {url} "
                "--status-topic c/{mac} --online-topic d/{mac} --command-retain yes --command-expiry 720h");
    char *values = printed_values(&first.config), *text = printed(&first.config);
    write_file("u.ini", text);
    assert_reads(&second, "--config u.ini");
    char *again = printed_values(&second.config);
    assert_string_equal(again, values);
    assert_null(strstr(text, "default")); /* every key took part */
    free(again);
    free(text);
    free(values);
    config_close(&first.config);
    config_close(&second.config);
}

static const struct {
    const char *line;
    const char *printed; /* NULL = as it was */
} lines[] = {
    { "repo=;a", NULL },
    { "repo =a\tb", "repo = a\tb" },
    { "repo = a;b#c = \"d\"", NULL },
    { "repo = /srv/\xe5\xa4\xa7", NULL },
    { "mqtt = mqtt://h", "mqtt = mqtt://h:1883" },
    { "mqtt=mqtts://ann:hunter2@h/", "mqtt = mqtts://h:8883" },
    { "listen=[::1]:080", "listen = [::1]:080" },
    { "trusted-proxy=10.0.0.1", "trusted-proxy = 10.0.0.1" },
    { "command-payload = {\"a\":\"{version}\"}", NULL },
    { "idle-timeout = 120s", "idle-timeout = 2m" },
    { "max-failures = 5", "max-failures = 5%" },
    { "[offer]\ndoor=newest", "[offer]\ndoor = newest" },
    { "[offer]\ngate = published ; not yet\ndoor = newest", "[offer]\ngate = published\ndoor = newest" },
    { "[assign]\n5C:CF:7F:B1:E0:42 = DOOR-7", "[assign]\n5ccf7fb1e042 = DOOR-7" },
    { "[assign]\n5C:CF:7F:B1:E0:42 =;x", "[assign]\n5ccf7fb1e042=;x" },
    { "[assign]\n5C:CF:7F:B1:E0:42 = newest", "[assign]\n5ccf7fb1e042 = newest" },
    { "[assign]\n5C:CF:7F:B1:E0:42 = door newest ; why\n5C:CF:7F:B1:E0:41 = a \t b",
      "[assign]\n5ccf7fb1e042 = door newest\n5ccf7fb1e041 = a b" },
};

static void assert_line_returns(const char *line, const char *expected)
{
    struct reading first, second;
    char text[2 * INI_LINE_MAX + 2];
    snprintf(text, sizeof text, "%s\n", line);
    write_file("u.ini", text);
    assert_reads(&first, "--config u.ini");
    char *values = printed_values(&first.config), *whole = printed(&first.config);
    snprintf(text, sizeof text, "\n%s\n", expected != NULL ? expected : line);
    if (strstr(values, text + (strncmp(values, text + 1, strlen(text + 1)) == 0)) == NULL) {
        fail_msg("%s: not in\n%s", text, values);
    }
    write_file("v.ini", whole);
    assert_reads(&second, "--config v.ini");
    char *again = printed_values(&second.config);
    assert_string_equal(again, values);
    free(again);
    free(whole);
    free(values);
    config_close(&first.config);
    config_close(&second.config);
}

/* Whatever a file can say, what is printed of it says the same. */
static void test_whatever_a_file_says_is_printed_so_that_it_returns(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        assert_line_returns(lines[i].line, lines[i].printed);
    }
    char longest[INI_LINE_MAX + 1] = "repo=";
    memset(longest + 5, 'a', INI_LINE_MAX - 5);
    assert_line_returns(longest, NULL);
    memcpy(longest, "mqtt=mqtt://u:p@", 16); /* without the user there is room for the host, but not for the port */
    char shown[INI_LINE_MAX + 20];
    snprintf(shown, sizeof shown, "mqtt = mqtt://%s", longest + 16);
    assert_line_returns(longest, shown);
}

/* Else a file made of what is printed would mean something else, in silence. */
static void test_what_no_file_can_say_is_printed_as_a_comment(void **state)
{
    (void)state;
    struct reading got;
    setenv("UPDRAFT_REPO", "/srv/a ;b", 1);
    setenv("UPDRAFT_ADMIN_LISTEN", ";a:1", 1);
    char args[400] = "--admin-socket /";
    memset(args + strlen(args), 'a', INI_LINE_MAX);
    assert_reads(&got, args);
    assert_prints(&got.config, "; repo is \"/srv/a ;b\", which no line of a file can say: leave it to the flag or "
                               "variable ; environment UPDRAFT_REPO\n");
    assert_prints(&got.config, "\n; admin-socket is \"/aaa");
    assert_prints(&got.config, "\nadmin-listen=;a:1 ; environment UPDRAFT_ADMIN_LISTEN\n");
    config_close(&got.config);
}

static void test_help_names_every_key(void **state)
{
    (void)state;
    struct reading got;
    char *help = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&help, &n);
    config_print_help(file);
    fclose(file);
    assert_reads(&got, "");
    char *text = printed_values(&got.config);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char name[50], flag[60];
        if (line[0] != ';' && sscanf(line, "%49s =", name) == 1) {
            snprintf(flag, sizeof flag, "\n  --%s ", name);
            const char *shown = strstr(help, flag);
            assert_non_null(shown);
            assert_true(memchr(shown + 1, '[', strcspn(shown + 1, "\n")) != NULL); /* and its default */
        }
    }
    free(text);
    free(help);
    config_close(&got.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_secrets_are_not_shown),
        IN_FOLDER(test_assignments_of_both_files),
        IN_FOLDER(test_printed_is_a_file_that_reads_the_same),
        IN_FOLDER(test_whatever_a_file_says_is_printed_so_that_it_returns),
        IN_FOLDER(test_what_no_file_can_say_is_printed_as_a_comment),
        IN_FOLDER(test_help_names_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
