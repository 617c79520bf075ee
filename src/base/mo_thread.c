/* mo_thread.c - see mo_thread.h. */

#if defined(MEMOPT_NO_THREADS)

static int moi_mutex_init(moi_mutex *mutex) { return (*mutex = 1); }
static void moi_mutex_free(moi_mutex *mutex) { (void)mutex; }
static void moi_mutex_lock(moi_mutex *mutex) { (void)mutex; }
static void moi_mutex_unlock(moi_mutex *mutex) { (void)mutex; }
static int moi_condition_init(moi_condition *condition) { return (*condition = 1); }
static void moi_condition_free(moi_condition *condition) { (void)condition; }
static void moi_condition_wait(moi_condition *condition, moi_mutex *mutex) {
    (void)condition, (void)mutex;
}
static void moi_condition_wake_one(moi_condition *condition) { (void)condition; }
static void moi_condition_wake_all(moi_condition *condition) { (void)condition; }
static int moi_thread_start(moi_thread *thread, moi_thread_body *body) {
    (void)thread, (void)body;
    return 0;
}
static void moi_thread_join(moi_thread thread) { (void)thread; }

#elif defined(_WIN32)

static int moi_mutex_init(moi_mutex *mutex) {
    InitializeSRWLock(mutex);
    return 1;
}
static void moi_mutex_free(moi_mutex *mutex) { (void)mutex; }
static void moi_mutex_lock(moi_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static void moi_mutex_unlock(moi_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static int moi_condition_init(moi_condition *condition) {
    InitializeConditionVariable(condition);
    return 1;
}
static void moi_condition_free(moi_condition *condition) { (void)condition; }
static void moi_condition_wait(moi_condition *condition, moi_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
static void moi_condition_wake_one(moi_condition *condition) { WakeConditionVariable(condition); }
static void moi_condition_wake_all(moi_condition *condition) {
    WakeAllConditionVariable(condition);
}
static DWORD WINAPI moi_thread_main(void *self) {
    const moi_thread_body *body = (const moi_thread_body *)self;
    body->run(body->self);
    return 0;
}
static int moi_thread_start(moi_thread *thread, moi_thread_body *body) {
    *thread = CreateThread(NULL, 0, moi_thread_main, body, 0, NULL);
    return *thread != NULL;
}
static void moi_thread_join(moi_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

#else
#include <signal.h>

static int moi_mutex_init(moi_mutex *mutex) { return pthread_mutex_init(mutex, NULL) == 0; }
static void moi_mutex_free(moi_mutex *mutex) { pthread_mutex_destroy(mutex); }
static void moi_mutex_lock(moi_mutex *mutex) { pthread_mutex_lock(mutex); }
static void moi_mutex_unlock(moi_mutex *mutex) { pthread_mutex_unlock(mutex); }
static int moi_condition_init(moi_condition *condition) {
    return pthread_cond_init(condition, NULL) == 0;
}
static void moi_condition_free(moi_condition *condition) { pthread_cond_destroy(condition); }
static void moi_condition_wait(moi_condition *condition, moi_mutex *mutex) {
    pthread_cond_wait(condition, mutex);
}
static void moi_condition_wake_one(moi_condition *condition) { pthread_cond_signal(condition); }
static void moi_condition_wake_all(moi_condition *condition) { pthread_cond_broadcast(condition); }

static void *moi_thread_main(void *self) {
    const moi_thread_body *body = (const moi_thread_body *)self;
    body->run(body->self);
    return NULL;
}
static int moi_thread_start(moi_thread *thread, moi_thread_body *body) {
    sigset_t all, was;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &was) != 0) return 0;
    const int error = pthread_create(thread, NULL, moi_thread_main, body);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    return error == 0;
}
static void moi_thread_join(moi_thread thread) { pthread_join(thread, NULL); }
#endif
