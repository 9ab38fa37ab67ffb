use sglhost_guest::prelude::*;

/// A report that is JSON whatever the model would rather say.
const REPORT: &str = r#"\{"summary": "[A-Z][^".\\\n]{10,200}\.", "grade": "[ABCDF][+-]?"\}"#;

/// Judges an essay in several dimensions at the same time, then merges the judgments into a grade.
#[program]
fn judge(
    s: &mut State,
    /// What to judge.
    #[arg(default = include_str!("../essay.txt").to_owned())]
    essay: String,
    /// What to look at.
    #[arg(default = ["clarity", "originality", "evidence", "structure", "persuasiveness"].map(String::from).to_vec())]
    dimensions: Vec<String>,
) -> Result<Value> {
    s.system("You are a strict but fair teacher who judges essays.");
    s.user(text("Please read this essay.\n\n") + essay);
    s.assistant("I have read the essay. What shall I judge?");

    // Branch: a fork for each dimension. They share the essay's cache and run at the same time.
    let mut forks = s.fork(dimensions.len());
    for (f, dimension) in forks.iter_mut().zip(&dimensions) {
        f.user(format!(
            "Judge the {dimension} of the essay in one sentence, then give a score from 1 (poor) to 5 (excellent)."
        ));
        f.assistant(
            "Judgment:" + gen("judgment").stop("\n") + "\nScore: " + select("score", ["1", "2", "3", "4", "5"]),
        );
    }

    // Merge: the parent never saw the forks' questions, only what came of them.
    s.user("Now judge the essay as a whole. Give a summary and a grade from A to F, as JSON.");
    s.assistant_begin();
    for (f, dimension) in forks.iter().zip(&dimensions) {
        s.append(format!("{dimension} ({} of 5):{}\n", f["score"], f["judgment"]));
    }
    s.append(gen("report").regex(REPORT).max_tokens(256));
    s.assistant_end();

    let scores = forks.iter().map(|f| f.get("score")).collect::<Result<Vec<u8>>>()?;
    let report: Value = s.get("report")?;
    Ok(json!({ "grade": report["grade"], "summary": report["summary"], "dimensions": dimensions, "scores": scores }))
}
