/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A terminal as a screen, by plain ECMA-48 sequences that every terminal in use knows: entered and left, read and drawn.
 * One per process. However the process ends, but by SIGKILL, the terminal is as it was: signals that end it are read from
 * a descriptor, and crashes restore it first.
 */
#pragma once

#include "base/error.h"
#include <glib.h>
#include <stdbool.h>

/* Can it be one: input and output are terminals, whose kind is not "dumb"? */
bool nc_screen_is_possible(void);

/* Enters it. *ret_fd: readable when nc_screen_signal() has something. NC_ERROR_IO. */
bool nc_screen_open(int *ret_fd, GError **error);
void nc_screen_close(void);

/* The next signal that came: SIGWINCH, SIGTSTP or one that ends the process; 0: none. */
int nc_screen_signal(void);

/* Leaves the screen, stops the process, and enters it again when it goes on. */
void nc_screen_suspend(void);

void nc_screen_size(size_t *ret_columns, size_t *ret_rows);

/* Shows ${lines} (char *, each as wide as the screen) from its top on: only what differs from what is there is written. */
bool nc_screen_draw(const GPtrArray *lines, GError **error);
/* What is on it is not known any more: the next nc_screen_draw() draws all of it. */
void nc_screen_forget(void);
