/* The log: standard error, or the file PETITGEN_VIRTUAL_LOG names. The last story stays for who asks. */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtual.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char story[8192];

static void write_out(const char *text, size_t length) {
    const char *path = getenv("PETITGEN_VIRTUAL_LOG");
    int file = path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    while (length) {
        ssize_t written = write(file >= 0 ? file : STDERR_FILENO, text, length);
        if (written <= 0) break;
        text += written, length -= (size_t)written;
    }
    if (file >= 0) close(file);
}

void tell(const char *format, ...) {
    char line[sizeof story];
    int head = snprintf(line, sizeof line, "petitgen virtual GPU: ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + head, sizeof line - (size_t)head - 1, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&mutex);
    strcpy(story, line + head);
    strcat(line, "\n");
    write_out(line, strlen(line));
    pthread_mutex_unlock(&mutex);
}

/* Another thread of the parent may have been writing: its lock is not ours to wait for. */
void log_after_fork(void) { pthread_mutex_init(&mutex, NULL); }

/* Copies what was told last into `text` (always terminated); returns its length. */
EXPORT size_t petitgen_virtual_story(char *text, size_t room) {
    pthread_mutex_lock(&mutex);
    size_t length = strlen(story);
    if (room) snprintf(text, room, "%s", story);
    pthread_mutex_unlock(&mutex);
    return length;
}
