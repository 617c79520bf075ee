/* mo_thread.h - threads, locks and conditions of POSIX and Windows, for the implementation only.
 *
 * With MEMOPT_NO_THREADS, for systems that have none, starting a thread fails and locks do
 * nothing. */
#ifndef MEMOPT_THREAD_H
#define MEMOPT_THREAD_H

#if defined(MEMOPT_NO_THREADS)
typedef int moi_mutex;
typedef int moi_condition;
typedef int moi_thread;
#elif defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
typedef SRWLOCK moi_mutex;
typedef CONDITION_VARIABLE moi_condition;
typedef HANDLE moi_thread;
#else
#include <pthread.h>
typedef pthread_mutex_t moi_mutex;
typedef pthread_cond_t moi_condition;
typedef pthread_t moi_thread;
#endif

/* init returns 0 when it fails. */
static int moi_mutex_init(moi_mutex *mutex);
static void moi_mutex_free(moi_mutex *mutex);
static void moi_mutex_lock(moi_mutex *mutex);
static void moi_mutex_unlock(moi_mutex *mutex);

/* wait gives the mutex up while it waits; it may also return for no reason. */
static int moi_condition_init(moi_condition *condition);
static void moi_condition_free(moi_condition *condition);
static void moi_condition_wait(moi_condition *condition, moi_mutex *mutex);
static void moi_condition_wake_one(moi_condition *condition);
static void moi_condition_wake_all(moi_condition *condition);

/* start returns 0 when there is no thread to be had. body and self stay valid until join. Signals
 * are for the program's own threads: the new one has all of them blocked. */
typedef struct moi_thread_body {
    void (*run)(void *self);
    void *self;
} moi_thread_body;

static int moi_thread_start(moi_thread *thread, moi_thread_body *body);
static void moi_thread_join(moi_thread thread);

#endif
