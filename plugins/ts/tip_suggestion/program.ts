import { gen, program } from "sglhost";

export default program({
  name: "tip_suggestion",
  description: "Expands two tips for staying healthy at the same time, then sums them up.",
  async run(s) {
    s.assistant("Here are two tips for staying healthy: 1. Balanced Diet. 2. Regular Exercise.\n\n");

    // Nothing waits in this loop: both tips are generated at the same time.
    const forks = s.fork(2);
    for (const [i, f] of forks.entries()) {
      f.assistant(
        `Now, expand tip ${i + 1} into a paragraph:\n`,
        gen("detailed_tip", { maxTokens: 256, stop: "\n\n" }),
      );
    }

    const tips = await Promise.all(forks.map((f) => f.get("detailed_tip")));
    s.assistant(`Tip 1:${tips[0]}\n`);
    s.assistant(`Tip 2:${tips[1]}\n`);
    s.assistant("To summarize the above two tips, I can say:\n", gen("summary", { maxTokens: 512 }));
  },
});
