/* Starting and ending a mosquitto. What makes it hard: a test that fails must leave no broker behind, so the child asks
 * the kernel to be killed with its parent; and a port that was free may be taken a moment later, so a start that fails
 * is told from one that is slow. */
#include "tests/support/broker.h"

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS_MAX 10000
#define LOOK_MS      5
#define DAY_S        86400

static void give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void give_up(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("broker: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static void sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
    nanosleep(&time, NULL);
}

static const char *find_program(const char *const *paths)
{
    while (*paths != NULL && access(*paths, X_OK) != 0) {
        paths++;
    }
    return *paths;
}

static const char *mosquitto(void)
{
    static const char *const paths[] = { "/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto",
                                         NULL };
    return find_program(paths);
}

bool broker_is_installed(void)
{
    return mosquitto() != NULL;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

uint16_t free_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        give_up("no free port: %s", strerror(errno));
    }
    close(fd);
    return ntohs(address.sin_port);
}

const char *broker_file(struct broker *broker, const char *name)
{
    snprintf(broker->path, sizeof broker->path, "%s/%s", broker->folder, name);
    return broker->path;
}

static FILE *create(struct broker *broker, const char *name)
{
    FILE *file = fopen(broker_file(broker, name), "w");
    if (file == NULL) {
        give_up("%s: %s", broker->path, strerror(errno));
    }
    return file;
}

/* --- certificates ------------------------------------------------------------------------------------------------ */

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

static void add_extension(X509 *certificate, X509V3_CTX *context, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, context, nid, value);
    assert(extension != NULL);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/* `issuer` NULL: a CA that signs itself. */
static struct identity identity_new(const char *name, const struct identity *issuer, bool expired)
{
    static long serial = 1;
    struct identity made = { EVP_EC_gen("P-256"), X509_new() };
    assert(made.key != NULL && made.certificate != NULL);
    const struct identity *signer = issuer != NULL ? issuer : &made;
    X509_set_version(made.certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), -3 * DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), expired ? -DAY_S : DAY_S);
    X509_set_pubkey(made.certificate, made.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.certificate), "CN", MBSTRING_ASC, (const unsigned char *)name,
                               -1, -1, 0);
    X509_set_issuer_name(made.certificate, X509_get_subject_name(signer->certificate));
    X509V3_CTX context;
    X509V3_set_ctx(&context, signer->certificate, made.certificate, NULL, NULL, 0);
    add_extension(made.certificate, &context, NID_basic_constraints, issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    add_extension(made.certificate, &context, NID_subject_alt_name, "IP:127.0.0.1,DNS:broker.test");
    int size = X509_sign(made.certificate, signer->key, EVP_sha256());
    assert(size > 0);
    return made;
}

static void identity_write(struct broker *broker, const struct identity *identity, const char *certificate_file,
                           const char *key_file)
{
    FILE *file = create(broker, certificate_file);
    PEM_write_X509(file, identity->certificate);
    fclose(file);
    if (key_file != NULL) {
        file = create(broker, key_file);
        PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL);
        fclose(file);
    }
}

static void identity_free(struct identity *identity)
{
    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
}

static void make_certificates(struct broker *broker, bool expired)
{
    struct identity ca = identity_new("updraft test CA", NULL, false);
    struct identity other = identity_new("another CA", NULL, false);
    struct identity server = identity_new("broker", &ca, expired);
    struct identity client = identity_new("client", &ca, false);
    identity_write(broker, &ca, "ca.pem", NULL);
    identity_write(broker, &other, "other-ca.pem", NULL);
    identity_write(broker, &server, "server.pem", "server.key");
    identity_write(broker, &client, "client.pem", "client.key");
    identity_free(&ca);
    identity_free(&other);
    identity_free(&server);
    identity_free(&client);
}

/* --- configuration ----------------------------------------------------------------------------------------------- */

static void run(char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    int result = 0;
    if (pid < 0 || waitpid(pid, &result, 0) != pid || result != 0) {
        give_up("%s failed", argv[0]);
    }
}

static void write_password_file(struct broker *broker, const struct broker_options *options)
{
    static const char *const paths[] = { "/usr/bin/mosquitto_passwd", "/usr/local/bin/mosquitto_passwd", NULL };
    const char *program = find_program(paths);
    if (program == NULL) {
        give_up("mosquitto_passwd is not installed");
    }
    char *words[] = { strdup(program),
                      strdup("-b"),
                      strdup("-c"),
                      strdup(broker_file(broker, "passwords")),
                      strdup(options->user),
                      strdup(options->password),
                      NULL };
    run(words);
    for (size_t i = 0; words[i] != NULL; i++) {
        free(words[i]);
    }
}

static void write_number(FILE *file, const char *key, unsigned number)
{
    if (number != 0) {
        fprintf(file, "%s %u\n", key, number);
    }
}

static void write_configuration(struct broker *broker, const struct broker_options *options)
{
    if (options->user != NULL) {
        write_password_file(broker, options);
    }
    if (options->tls) {
        make_certificates(broker, options->expired);
    }
    FILE *file = create(broker, "mosquitto.conf");
    const char *folder = broker->folder;
    if (geteuid() == 0) {
        fprintf(file, "user root\n"); /* otherwise it becomes somebody who may not read this folder */
    }
    fprintf(file, "persistence false\nlog_dest file %s/log\nlog_type all\nallow_anonymous %s\n", folder,
            options->user != NULL ? "false" : "true");
    if (options->user != NULL) {
        fprintf(file, "password_file %s/passwords\n", folder);
    }
    write_number(file, "max_inflight_messages", options->receive_maximum);
    write_number(file, "message_size_limit", options->message_bytes_max);
    write_number(file, "max_packet_size", options->packet_bytes_max);
    write_number(file, "max_keepalive", options->keep_alive_s_max);
    fprintf(file, "max_queued_messages 1000000\n%s\nlistener %u 127.0.0.1\n",
            options->more != NULL ? options->more : "", (unsigned)broker->port);
    if (options->tls) {
        fprintf(file, "cafile %s/ca.pem\ncertfile %s/server.pem\nkeyfile %s/server.key\nrequire_certificate %s\n",
                folder, folder, folder, options->client_certificates ? "true" : "false");
    }
    fclose(file);
}

/* --- the process ------------------------------------------------------------------------------------------------- */

static bool takes_connections(const struct broker *broker)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(broker->port);
    bool taken = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return taken;
}

void broker_restart(struct broker *broker)
{
    assert(broker->pid == 0);
    pid_t parent = getpid();
    broker->pid = fork();
    if (broker->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(127);
        }
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execl(mosquitto(), "mosquitto", "-c", broker_file(broker, "mosquitto.conf"), (char *)NULL);
        _exit(127);
    }
    for (unsigned waited_ms = 0; !takes_connections(broker); waited_ms += LOOK_MS) {
        int result;
        if (broker->pid < 0 || waitpid(broker->pid, &result, WNOHANG) != 0 || waited_ms > START_MS_MAX) {
            give_up("mosquitto did not start; see %s/log", broker->folder);
        }
        sleep_ms(LOOK_MS);
    }
}

void broker_start(struct broker *broker, const struct broker_options *options)
{
    memset(broker, 0, sizeof *broker);
    if (!broker_is_installed()) {
        give_up("mosquitto is not installed: run script/bootstrap test");
    }
    snprintf(broker->folder, sizeof broker->folder, "/tmp/updraft-broker-XXXXXX");
    if (mkdtemp(broker->folder) == NULL) {
        give_up("%s: %s", broker->folder, strerror(errno));
    }
    broker->port = options->port != 0 ? options->port : free_port();
    write_configuration(broker, options);
    broker_restart(broker);
}

void broker_kill(struct broker *broker)
{
    if (broker->pid > 0) {
        kill(broker->pid, SIGKILL);
        kill(broker->pid, SIGCONT); /* a frozen one hears only SIGKILL */
        waitpid(broker->pid, NULL, 0);
        broker->pid = 0;
    }
}

void broker_freeze(struct broker *broker)
{
    kill(broker->pid, SIGSTOP);
}

void broker_thaw(struct broker *broker)
{
    kill(broker->pid, SIGCONT);
}

void broker_close(struct broker *broker)
{
    broker_kill(broker);
    DIR *folder = opendir(broker->folder);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] != '.') {
            unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    if (folder != NULL) {
        closedir(folder);
        rmdir(broker->folder);
    }
}

bool broker_logged(struct broker *broker, const char *text)
{
    FILE *file = fopen(broker_file(broker, "log"), "r");
    char line[1024];
    bool found = false;
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        found = strstr(line, text) != NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}
