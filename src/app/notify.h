/* Telling systemd about the service's state (sd_notify's protocol); silent when not run by it. */
#pragma once
#include "base/str.h"

/* "READY=1", "STOPPING=1", "RELOADING=1", "MAINPID=123", "STATUS=text"; several joined by LF. */
void notify_send(struct str state);
