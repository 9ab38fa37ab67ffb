#include <sglhost.h>

SGL_PROGRAM(tip_suggestion, "Expands two tips for staying healthy at the same time, then sums them up.") {
    sgl_assistant(s, "Here are two tips for staying healthy: 1. Balanced Diet. 2. Regular Exercise.\n\n");

    // Nothing waits in this loop: both tips are generated at the same time.
    sgl_state *forks[2];
    for (int i = 0; i < 2; i++) {
        forks[i] = sgl_fork(s);
        sgl_assistant_block(forks[i]) {
            sgl_appendf(forks[i], "Now, expand tip %d into a paragraph:\n", i + 1);
            sgl_gen(forks[i], "detailed_tip", .max_tokens = 256, .stop = SGL_TEXTS("\n\n"));
        }
    }

    sgl_assistant(s, sgl_format(s, "Tip 1:%s\n", sgl_get(forks[0], "detailed_tip")));
    sgl_assistant(s, sgl_format(s, "Tip 2:%s\n", sgl_get(forks[1], "detailed_tip")));
    sgl_assistant_block(s) {
        sgl_append(s, "To summarize the above two tips, I can say:\n");
        sgl_gen(s, "summary", .max_tokens = 512);
    }
}
